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
    assert!(denied.note("program", 1, &call, 38).is_some());
    denied.write();
    fs::remove_file(&place).unwrap();
    denied.write();
    assert!(fs::read_to_string(place.join("c.json")).unwrap().contains("getpid"));
}

#[test]
fn flood_of_one_call_is_told_once_and_of_many_programs_as_often_as_there_is_room_and_once_more() {
    let denied = Denied::new(PathBuf::from("c.json"), Path::new("tasks/c"));
    let call = |number| Call { arch: 0, number, args: [0; 6] };
    let Some(News::Call(row)) = denied.note("program", 7, &call(39), 38) else { panic!("the first is told") };
    assert_eq!((row.program.as_str(), row.syscall.as_str(), row.pid), ("program", "getpid", 7));
    assert!((0..1_000).all(|pid| denied.note("program", pid, &call(39), 38).is_none()));
    let told: Vec<News> =
        (0..1_000).filter_map(|n| denied.note(&format!("p{n}"), n, &call(39), 38)).collect();
    assert_eq!(told.len(), ROWS_MAX);
    assert_eq!(told.iter().filter(|news| **news == News::NoRoom).count(), 1);
    assert_eq!(told.last(), Some(&News::NoRoom));
}

#[test]
fn value_that_a_profile_denies_does_not_hide_behind_another_of_the_same_call() {
    let denied = Denied::new(PathBuf::from("c.json"), Path::new("tasks/c"));
    let ioctl = |request| Call { arch: 0, number: 16, args: [3, request, 0x7fff_0000, 0, 0, 0] };
    let (enotty, eperm) = (25, 1);
    assert!(denied.note("program", 1, &ioctl(0x5413), enotty).is_some());
    assert!(denied.note("program", 1, &ioctl(0x8912), enotty).is_some());
    // What the kernel does not read of it makes no other of it.
    assert!(denied.note("program", 1, &ioctl(1 << 32 | 0x5413), enotty).is_none());
    // The baseline's answer is to whatever value.
    assert!(denied.note("program", 1, &ioctl(0x5412), eperm).is_some());
    assert!(denied.note("program", 1, &ioctl(0x541b), eperm).is_none());
}
