#![allow(clippy::unwrap_used)]

use super::*;

/// A directory of so many files of containers, the first the oldest; and one of those that live.
fn directories(count: usize) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let (denied, tasks) = (root.path().join("denied"), root.path().join("tasks"));
    fs::create_dir(&denied).unwrap();
    fs::create_dir(&tasks).unwrap();
    for number in 0..count {
        let file = fs::File::create(denied.join(format!("c{number}.json"))).unwrap();
        let age = Duration::from_secs((count - number) as u64);
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    (root, denied, tasks)
}

#[test]
fn file_of_a_container_that_lives_stays_and_the_oldest_of_those_that_are_gone_goes() {
    let (_root, denied, tasks) = directories(FILES_MAX);
    fs::create_dir(tasks.join("c0")).unwrap();
    fs::write(denied.join("c1.tmp"), "half").unwrap();
    make_room(&denied, &tasks).unwrap();
    assert!(denied.join("c0.json").exists());
    assert!(!denied.join("c1.json").exists());
    assert!(denied.join("c1.tmp").exists(), "another server is writing it");
    assert_eq!(fs::read_dir(&denied).unwrap().count(), FILES_MAX);
}

#[test]
fn what_could_not_be_written_is_written_once_it_can_be() {
    let (root, ..) = directories(0);
    let place = root.path().join("place");
    fs::write(&place, "in the way").unwrap();
    let denied = Denied::new(place.join("c.json"), &root.path().join("tasks/c"));
    let call = Call { arch: 0, number: 39, args: [0; 6] };
    denied.note("program", 1, &call, 38);
    denied.write();
    fs::remove_file(&place).unwrap();
    denied.write();
    assert!(fs::read_to_string(place.join("c.json")).unwrap().contains("getpid"));
}
