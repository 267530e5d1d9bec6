import getpass
import multiprocessing
import tempfile


def app(environ, start_response):
    with tempfile.TemporaryFile() as file:
        file.write(getpass.getuser().encode())
    multiprocessing.Lock()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served by gunicorn\n"]
