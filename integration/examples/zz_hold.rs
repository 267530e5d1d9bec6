#![allow(missing_docs, clippy::unwrap_used)]
use bulkhead_integration::{Bench, Cri, Release};

fn main() {
    let which = std::env::var("HOLD").unwrap_or_default();
    let (rel, cri) = match which.as_str() {
        "16" => (Release::System, Cri::Off),
        "17" => (Release::V1_7, Cri::On),
        _ => (Release::V2_1, Cri::On),
    };
    let b = Bench::start(rel, cri).unwrap();
    let mut c = b.daemon.ctr_command(b.daemon.tag(), &[]);
    let words: Vec<String> = std::iter::once(c.get_program())
        .chain(c.get_args())
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    std::fs::write(
        format!("/tmp/h/{which}"),
        format!(
            "CTR='{}'\nTAG={}\nPID={}\nDIR={}\nROOT={}\n",
            words.join(" "),
            b.daemon.tag(),
            b.daemon.pid(),
            b.daemon.dir().display(),
            b.daemon.bulkhead_root().display()
        ),
    )
    .unwrap();
    let _ = &mut c;
    let stop = format!("/tmp/h/stop{which}");
    while !std::path::Path::new(&stop).exists() {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    eprintln!("{}", b.daemon.leftovers().unwrap());
}
