#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Claim, CriContainer, SnapshotKind, check_kind, example};
use bulkhead_model::{ContainerKind, Digest, Tenant};

const NAME: &str = "registry.example/team/app:1";

fn good() -> (ImageFacts, Observed) {
    let facts = example::facts("app");
    let observed = example::observed(&facts, NAME);
    (facts, observed)
}

fn rule_of(facts: &ImageFacts, observed: &Observed) -> Rule {
    bind(facts, observed, &observed.mounts).unwrap_err().rule
}

fn cri_container(config: Digest) -> CriRecord {
    CriRecord::Container(CriContainer { config, requested_name: None, image_volumes: Vec::new() })
}

#[test]
fn container_whose_chain_closes_is_verified() {
    let (facts, observed) = good();
    let image = bind(&facts, &observed, &observed.mounts).unwrap();
    assert_eq!(image.facts(), &facts);
    assert_eq!(image.claimed_name(), NAME);
    assert!(!image.in_cri());
}

#[test]
fn view_of_the_chain_is_verified_too() {
    let (facts, mut observed) = good();
    observed.chain[0].kind = SnapshotKind::View;
    assert!(bind(&facts, &observed, &observed.mounts).is_ok());
}

#[test]
fn container_without_image_is_refused() {
    let (facts, mut observed) = good();
    observed.claim.image_name.clear();
    observed.claim.snapshot_key.clear();
    observed.claim.snapshotter.clear();
    assert_eq!(rule_of(&facts, &observed), Rule::ImageMissing);
}

#[test]
fn container_with_image_but_without_snapshot_is_refused() {
    for clear in
        [(|observed: &mut Observed| observed.claim.snapshot_key.clear()) as fn(&mut Observed), |observed| {
            observed.claim.snapshotter.clear()
        }]
    {
        let (facts, mut observed) = good();
        clear(&mut observed);
        assert_eq!(rule_of(&facts, &observed), Rule::Rootfs);
    }
}

#[test]
fn facts_of_another_image_are_refused() {
    let (_, observed) = good();
    assert_eq!(rule_of(&example::facts("other"), &observed), Rule::ImageContents);
}

#[test]
fn facts_without_layers_are_refused() {
    let (mut facts, mut observed) = good();
    facts.diff_ids.clear();
    observed.chain.truncate(1);
    observed.chain[0].parent.clear();
    assert_eq!(rule_of(&facts, &observed), Rule::ImageContents);
}

#[test]
fn facts_with_too_many_layers_are_refused() {
    let mut facts = example::facts("app");
    facts.diff_ids = (0..=127u8).map(|n| Digest::of(&[n])).collect();
    facts.layers.clone_from(&facts.diff_ids);
    assert_eq!(rule_of(&facts, &example::observed(&facts, NAME)), Rule::ImageContents);
    facts.diff_ids.pop();
    facts.layers.pop();
    let observed = example::observed(&facts, NAME);
    assert!(bind(&facts, &observed, &observed.mounts).is_ok());
}

#[test]
fn layers_in_another_order_are_refused() {
    let (mut facts, observed) = good();
    facts.diff_ids.reverse();
    assert_eq!(rule_of(&facts, &observed), Rule::SnapshotChain);
}

#[test]
fn every_snapshot_with_another_parent_is_refused() {
    let (facts, observed) = good();
    for depth in 0..observed.chain.len() {
        let mut squatted = observed.clone();
        squatted.chain[depth].parent = Digest::of(b"squatter").to_string();
        assert_eq!(rule_of(&facts, &squatted), Rule::SnapshotChain, "at depth {depth}");
    }
}

#[test]
fn snapshot_of_wrong_kind_or_name_is_refused() {
    let (facts, observed) = good();
    for depth in 0..observed.chain.len() {
        let mut other = observed.clone();
        other.chain[depth].kind = if depth == 0 { SnapshotKind::Committed } else { SnapshotKind::Active };
        assert_eq!(rule_of(&facts, &other), Rule::SnapshotChain, "kind at depth {depth}");
        let mut other = observed.clone();
        other.chain[depth].name = "squatter".to_owned();
        assert_eq!(rule_of(&facts, &other), Rule::SnapshotChain, "name at depth {depth}");
    }
}

#[test]
fn shorter_and_longer_chains_are_refused() {
    let (facts, observed) = good();
    let mut shorter = observed.clone();
    shorter.chain.pop();
    assert_eq!(rule_of(&facts, &shorter), Rule::SnapshotChain);
    let mut longer = observed.clone();
    longer.chain.push(longer.chain[1].clone());
    assert_eq!(rule_of(&facts, &longer), Rule::SnapshotChain);
    let mut none = observed;
    none.chain.clear();
    assert_eq!(rule_of(&facts, &none), Rule::SnapshotChain);
}

#[test]
fn remapped_snapshot_is_refused_by_name() {
    let (facts, mut observed) = good();
    observed.chain[0].parent.push_str("-100000-100000");
    let refusal = bind(&facts, &observed, &observed.mounts).unwrap_err();
    assert_eq!(refusal.rule, Rule::SnapshotChain);
    assert!(refusal.why.contains("remapped owners"), "{}", refusal.why);
}

#[test]
fn each_part_of_a_mount_that_differs_is_refused() {
    let (facts, observed) = good();
    let change: [fn(&mut Mount); 5] = [
        |mount| mount.kind = "bind".to_owned(),
        |mount| mount.source = "/evil".to_owned(),
        |mount| mount.target = "etc".into(),
        |mount| mount.options[0] = "lowerdir=/evil:/l1".to_owned(),
        |mount| mount.options.push("userxattr".to_owned()),
    ];
    for change in change {
        let mut rootfs = observed.mounts.clone();
        change(&mut rootfs[0]);
        assert_eq!(bind(&facts, &observed, &rootfs).unwrap_err().rule, Rule::Rootfs, "{rootfs:?}");
    }
}

#[test]
fn more_or_fewer_mounts_than_the_snapshot_has_are_refused() {
    let (facts, observed) = good();
    let twice = [observed.mounts.clone(), observed.mounts.clone()].concat();
    for rootfs in [&[][..], &twice] {
        assert_eq!(bind(&facts, &observed, rootfs).unwrap_err().rule, Rule::Rootfs);
    }
    let mut two = observed.clone();
    two.mounts = twice.clone();
    assert_eq!(bind(&facts, &two, &twice).unwrap_err().rule, Rule::Rootfs);
}

#[test]
fn bind_mount_of_the_native_snapshotter_is_verified_and_unknown_kinds_are_refused() {
    let (facts, mut observed) = good();
    observed.mounts[0].kind = "bind".to_owned();
    assert!(bind(&facts, &observed, &observed.mounts).is_ok());
    for kind in ["ext4", "erofs", "fuse.stargz", "format/overlay", ""] {
        observed.mounts[0].kind = kind.to_owned();
        assert_eq!(rule_of(&facts, &observed), Rule::Rootfs, "{kind}");
    }
}

#[test]
fn selinux_label_of_the_spec_is_accepted_and_no_other() {
    let (facts, mut observed) = good();
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let mut rootfs = observed.mounts.clone();
    rootfs[0].options.push(format!("context=\"{label}\""));
    assert_eq!(bind(&facts, &observed, &rootfs).unwrap_err().rule, Rule::Rootfs);
    observed.mount_label = Some(label.to_owned());
    assert!(bind(&facts, &observed, &rootfs).is_ok());
    observed.mount_label = Some(String::new());
    assert_eq!(bind(&facts, &observed, &rootfs).unwrap_err().rule, Rule::Rootfs);
}

#[test]
fn cri_record_of_the_same_config_is_verified_and_of_another_refused() {
    let (facts, mut observed) = good();
    observed.claim.cri = cri_container(facts.config);
    assert!(bind(&facts, &observed, &observed.mounts).unwrap().in_cri());
    observed.claim.cri = cri_container(facts.manifest);
    assert_eq!(rule_of(&facts, &observed), Rule::ImageContents);
    observed.claim.cri = CriRecord::Sandbox;
    assert!(bind(&facts, &observed, &observed.mounts).unwrap().in_cri());
}

#[test]
fn annotations_of_a_pod_need_the_record_of_one() {
    let sandbox = ContainerKind::InSandbox { sandbox: "s".parse().unwrap() };
    let (facts, observed) = good();
    let claim = |cri: CriRecord| Claim { cri, ..observed.claim.clone() };
    let tenant = |namespace: &str| Tenant {
        containerd_namespace: "k8s.io".parse().unwrap(),
        namespace: namespace.parse().unwrap(),
    };
    let records = [CriRecord::None, CriRecord::Sandbox, cri_container(facts.config)];
    for (at, kind) in [ContainerKind::Plain, ContainerKind::Sandbox, sandbox].iter().enumerate() {
        for (other, record) in records.iter().enumerate() {
            let result = check_kind(&claim(record.clone()), kind, &tenant("k8s.io"));
            assert_eq!(result.is_ok(), at == other, "{kind:?} {record:?}");
        }
    }
    assert!(check_kind(&claim(CriRecord::Sandbox), &ContainerKind::Sandbox, &tenant("payments")).is_ok());
    let forged = check_kind(&claim(CriRecord::None), &ContainerKind::Plain, &tenant("payments"));
    assert_eq!(forged.unwrap_err().rule, Rule::Spec);
}

#[test]
fn all_names_are_collected_for_the_strictest_verdict() {
    let (facts, mut observed) = good();
    observed.names.insert("registry.example/strict/app:1".to_owned());
    observed.names.remove(NAME);
    let image = bind(&facts, &observed, &observed.mounts).unwrap();
    assert!(image.names().iter().eq(["registry.example/strict/app:1", NAME]), "{:?}", image.names());
}

#[test]
fn what_the_pod_calls_its_image_is_a_hint_and_not_a_name() {
    let (facts, mut observed) = good();
    let CriRecord::Container(mut record) = cri_container(facts.config) else { unreachable!() };
    record.requested_name = Some("registry.example/asked/app:1".to_owned());
    observed.claim.cri = CriRecord::Container(record);
    let image = bind(&facts, &observed, &observed.mounts).unwrap();
    assert!(image.names().iter().eq([NAME]), "{:?}", image.names());
    assert_eq!(image.requested_name(), Some("registry.example/asked/app:1"));
}

#[test]
fn own_reference_of_cri_is_no_name_but_outside_of_cri_it_is() {
    let (facts, mut observed) = good();
    let id = facts.config.to_string();
    observed.claim.image_name.clone_from(&id);
    assert!(bind(&facts, &observed, &observed.mounts).unwrap().names().contains(&id));
    observed.claim.cri = cri_container(facts.config);
    let image = bind(&facts, &observed, &observed.mounts).unwrap();
    assert!(image.names().iter().eq([NAME]), "{:?}", image.names());
    assert_eq!(image.claimed_name(), id);
}

#[test]
fn name_of_the_image_cannot_forge_a_line() {
    let (facts, mut observed) = good();
    observed.claim.image_name = "a\nbulkhead: allowed".to_owned();
    observed.chain.clear();
    assert!(!bind(&facts, &observed, &observed.mounts).unwrap_err().line().contains('\n'));
}

proptest::proptest! {
    /// No chain but the image's own closes: whatever one changes about one name, parent or kind, it is refused.
    #[test]
    fn any_single_change_of_the_chain_is_refused(layers in 1usize..20, at in 0usize..21, what in 0u8..3, text in "[a-z0-9:-]{0,80}") {
        let mut facts = example::facts("app");
        facts.diff_ids = (0..layers).map(|n| Digest::of(&n.to_le_bytes())).collect();
        facts.layers.clone_from(&facts.diff_ids);
        let mut observed = example::observed(&facts, NAME);
        let at = at % observed.chain.len();
        let before = observed.clone();
        let snapshot = &mut observed.chain[at];
        match what {
            0 => snapshot.name = text,
            1 => snapshot.parent = text,
            _ => snapshot.kind = SnapshotKind::Unknown,
        }
        proptest::prop_assume!(observed != before);
        proptest::prop_assert_eq!(rule_of(&facts, &observed), Rule::SnapshotChain);
        proptest::prop_assert!(bind(&facts, &before, &before.mounts).is_ok());
    }
}
