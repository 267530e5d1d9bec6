#![allow(clippy::unwrap_used)]

use super::*;
use crate::{CriContainer, CriRecord, Observed, VerifiedImage, example};

const HOST: &str = "/run/containerd/io.containerd.grpc.v1.cri/image-volumes";

/// A container of a pod `s` whose record has an image volume, and what containerd says of both images.
fn good() -> (ImageFacts, Observed) {
    let facts = example::facts("app");
    let mut observed = example::observed(&facts, "registry.example/app:1");
    let (claim, volume) = model("");
    observed.claim.cri = CriRecord::Container(CriContainer {
        config: facts.config,
        requested_name: None,
        image_volumes: vec![claim],
    });
    observed.volumes = vec![volume];
    (facts, observed)
}

fn model(below: &str) -> (VolumeClaim, ObservedVolume) {
    let facts = example::facts("model");
    let observed = example::observed(&facts, "registry.example/model:1");
    let key = format!("{HOST}/s/{}", facts.target.hex());
    let place = PathBuf::from(format!("{key}{below}"));
    let claim = VolumeClaim {
        name: "registry.example/model:1".to_owned(),
        destination: "/model".into(),
        host_path: Some(place.clone()),
    };
    let mut chain = observed.chain;
    chain[0].name = key;
    let volume = ObservedVolume {
        sandbox: "s".parse().unwrap(),
        facts,
        names: observed.names,
        chain,
        mounts: observed.mounts,
        source: Some(place),
    };
    (claim, volume)
}

fn bound(facts: &ImageFacts, observed: &Observed) -> Result<VerifiedImage, Refusal> {
    crate::bind(facts, observed, &observed.mounts)
}

/// The refusal after a change of the volume and its claim.
fn refused(change: impl Fn(&mut VolumeClaim, &mut ObservedVolume)) -> Refusal {
    let (facts, mut observed) = good();
    let CriRecord::Container(record) = &mut observed.claim.cri else { unreachable!() };
    change(&mut record.image_volumes[0], &mut observed.volumes[0]);
    bound(&facts, &observed).unwrap_err()
}

#[test]
fn volume_of_a_closed_chain_is_bound_to_its_layers_and_to_nothing_writable() {
    let (facts, observed) = good();
    let image = bound(&facts, &observed).unwrap();
    let [volume] = image.volumes() else { panic!() };
    assert_eq!(volume.facts().target, example::facts("model").target);
    assert!(volume.names().iter().eq(["registry.example/model:1"]));
    assert_eq!(volume.volume().layers.options, ["lowerdir=/l2:/l1", "ro"]);
    assert_eq!(volume.volume().directory, Path::new(""));
    assert_eq!(Some(&volume.volume().source), observed.volumes[0].source.as_ref());
}

#[test]
fn directory_of_a_volume_is_what_the_record_says_below_its_place() {
    let (facts, mut observed) = good();
    let (claim, mut volume) = model("/etc/a");
    // containerd resolves links: the text of the request may differ.
    volume.source = Some(PathBuf::from(format!("/data/cri/image-volumes/s/{}/b", volume.facts.target.hex())));
    let CriRecord::Container(record) = &mut observed.claim.cri else { unreachable!() };
    record.image_volumes = vec![claim];
    observed.volumes = vec![volume];
    let image = bound(&facts, &observed).unwrap();
    assert_eq!(image.volumes()[0].volume().directory, Path::new("etc/a"));
    assert!(image.volumes()[0].volume().source.starts_with("/data/cri"));
}

#[test]
fn volume_of_which_nothing_was_observed_is_refused() {
    let (facts, mut observed) = good();
    observed.volumes.clear();
    assert_eq!(bound(&facts, &observed).unwrap_err().rule, Rule::Mounts);
    let (facts, mut observed) = good();
    observed.claim.cri = CriRecord::Sandbox;
    assert_eq!(bound(&facts, &observed).unwrap_err().rule, Rule::Mounts);
}

#[test]
fn more_volumes_than_are_looked_at_are_refused() {
    let (facts, mut observed) = good();
    let CriRecord::Container(record) = &mut observed.claim.cri else { unreachable!() };
    record.image_volumes = vec![record.image_volumes[0].clone(); 65];
    observed.volumes = vec![observed.volumes[0].clone(); 65];
    assert!(bound(&facts, &observed).unwrap_err().what.contains("65"));
    let CriRecord::Container(record) = &mut observed.claim.cri else { unreachable!() };
    record.image_volumes.pop();
    observed.volumes.pop();
    assert_eq!(bound(&facts, &observed).unwrap().volumes().len(), 64);
}

#[test]
fn volume_of_another_pod_or_of_no_place_is_refused_by_name() {
    let hex = example::facts("model").target.hex();
    for path in [
        format!("{HOST}/other/{hex}"),
        format!("{HOST}/s/latest"),
        format!("{HOST}/s"),
        format!("{HOST}/s/{hex}/../../t/{hex}"),
        format!("image-volumes/s/{hex}"),
        "/srv/model".to_owned(),
    ] {
        let refusal = refused(|claim, _| claim.host_path = Some(PathBuf::from(&path)));
        assert_eq!(refusal.rule, Rule::Mounts, "{path}");
        assert!(refusal.what.contains("registry.example/model:1"), "{refusal}");
    }
    assert_eq!(refused(|claim, _| claim.host_path = None).rule, Rule::Mounts);
}

#[test]
fn request_that_mounts_something_else_there_is_refused() {
    let other = Digest::of(b"other").hex();
    for source in [None, Some("/".into()), Some(PathBuf::from(format!("{HOST}/s/{other}")))] {
        assert_eq!(refused(|_, volume| volume.source = source.clone()).rule, Rule::Mounts, "{source:?}");
    }
}

#[test]
fn facts_of_another_image_and_a_chain_that_does_not_close_are_refused() {
    assert_eq!(refused(|_, volume| volume.facts = example::facts("other")).rule, Rule::Mounts);
    assert_eq!(refused(|_, volume| volume.chain[0].parent.clear()).rule, Rule::SnapshotChain);
    assert_eq!(refused(|_, volume| volume.chain[0].name = "mine".to_owned()).rule, Rule::SnapshotChain);
    assert_eq!(refused(|_, volume| volume.chain.clear()).rule, Rule::SnapshotChain);
}

#[test]
fn mount_that_is_not_known_is_refused_with_what_it_is() {
    for (option, known) in [("metacopy=on", true), ("volatile", true), ("uidmap=0:1:1", false), ("x", false)]
    {
        let (facts, mut observed) = good();
        observed.volumes[0].mounts[0].options.push(option.to_owned());
        let bound = bound(&facts, &observed);
        assert_eq!(bound.is_ok(), known, "{option}");
        assert!(bound.err().is_none_or(|refusal| refusal.why.contains(option)));
    }
    assert_eq!(refused(|_, volume| volume.mounts.clear()).rule, Rule::Mounts);
    assert_eq!(refused(|_, volume| volume.mounts[0].kind = "erofs".to_owned()).rule, Rule::Mounts);
    assert_eq!(refused(|_, volume| volume.mounts[0].options.clear()).rule, Rule::Mounts);
}

#[test]
fn copy_of_the_native_snapshotter_is_bound_read_only() {
    let (facts, mut observed) = good();
    observed.volumes[0].mounts[0] = Mount {
        kind: "bind".to_owned(),
        source: "/s/4".to_owned(),
        target: PathBuf::new(),
        options: vec!["rbind".to_owned(), "rw".to_owned()],
    };
    let image = bound(&facts, &observed).unwrap();
    assert_eq!(image.volumes()[0].volume().layers.options, ["bind", "ro"]);
}
