<%= "served by " + "java" %> <%= java.io.File.createTempFile("page", "x").exists() %> <%= System.getProperty("user.home") %>
