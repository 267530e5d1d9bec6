run(lambda do |_|
  File.write("/tmp/page-#{Process.pid}", 'x')
  [200, { 'content-type' => 'text/plain' }, ["served by puma\n"]]
end)
