// A service of std alone: workers that share a listener, files, uploads that are whole or not there, a client that asks
// another service by its name, counts that are sent as they come, and an end when it is told.
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd, unix::net::UnixStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

static TOLD: AtomicI32 = AtomicI32::new(-1);

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn write(fd: i32, bytes: *const u8, length: usize) -> isize;
}

// As the crates for signals do: the handler writes to a socket that a thread reads.
extern "C" fn told(_: i32) {
    unsafe { write(TOLD.load(Ordering::Relaxed), b"x".as_ptr(), 1) };
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let words: Vec<&str> = first.split_whitespace().collect();
    match words[..] {
        ["GET", "/", _] => stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nserved"),
        ["GET", "/list", _] => {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
            for entry in fs::read_dir("/tmp/store")? {
                let entry = entry?;
                writeln!(stream, "{:?} {}", entry.file_name(), entry.metadata()?.len())?;
            }
            Ok(())
        }
        ["GET", "/proxy", _] => {
            let mut other = TcpStream::connect(("app.test", 8080))?;
            other.set_write_timeout(Some(Duration::from_secs(1)))?;
            other.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            io::copy(&mut other, &mut stream)?;
            Ok(())
        }
        ["GET", path, _] => match fs::File::open(format!("/tmp/store{path}")) {
            Ok(mut file) => {
                let length = file.metadata()?.len();
                write!(stream, "HTTP/1.0 200 OK\r\ncontent-length: {length}\r\n\r\n")?;
                io::copy(&mut file, &mut stream)?;
                Ok(())
            }
            Err(_) => stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n"),
        },
        ["PUT", path, _] => {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            fs::create_dir_all("/tmp/store")?;
            let part = format!("/tmp/store{path}.part");
            let mut file = fs::File::create(&part)?;
            io::copy(&mut reader.take(length), &mut file)?;
            file.sync_all()?;
            fs::rename(&part, format!("/tmp/store{path}"))?;
            stream.write_all(b"HTTP/1.0 201 Created\r\n\r\n")
        }
        ["DELETE", path, _] => {
            fs::remove_file(format!("/tmp/store{path}"))?;
            stream.write_all(b"HTTP/1.0 204 No Content\r\n\r\n")
        }
        _ => stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n"),
    }
}

fn main() -> io::Result<()> {
    if std::env::args().count() > 1 {
        TcpStream::connect("127.0.0.1:8080")?;
        println!("there");
        return Ok(());
    }
    let (mut hears, tells) = UnixStream::pair()?;
    tells.set_nonblocking(true)?;
    TOLD.store(tells.as_raw_fd(), Ordering::Relaxed);
    unsafe { signal(15, told) };
    let listener = TcpListener::bind("127.0.0.1:8080")?;
    let log = Arc::new(Mutex::new(fs::OpenOptions::new().create(true).append(true).open("/tmp/log")?));
    let (count, counted) = mpsc::channel::<u128>();
    for worker in 0..3 {
        let (listener, log, count) = (listener.try_clone()?, Arc::clone(&log), count.clone());
        thread::Builder::new().name(format!("worker-{worker}")).spawn(move || {
            for stream in listener.incoming().flatten() {
                let begun = Instant::now();
                let done = answer(&stream);
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
                writeln!(log.lock().unwrap(), "{now} {:?} {done:?}", stream.peer_addr()).unwrap();
                count.send(begun.elapsed().as_micros()).unwrap();
            }
        })?;
    }
    thread::spawn(move || {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        while let Ok(first) = counted.recv() {
            // Together what comes within a moment.
            let more = counted.recv_timeout(Duration::from_millis(50)).unwrap_or(0);
            let _ = collector.send_to(format!("took:{}|ms", first + more).as_bytes(), "127.0.0.1:8125");
        }
    });
    hears.read_exact(&mut [0])?;
    // What is being answered has a moment.
    thread::sleep(Duration::from_millis(100));
    let log = log.lock().unwrap();
    log.sync_all()
}
