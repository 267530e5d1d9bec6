//! Refusal by digest against a real containerd: each yes beside its no.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use bulkhead_containerd::{VerifiedImage, VerifyError, examine, verify};
use bulkhead_model::{CreateRequest, Refusal, Rule, chain_ids};
use common::{Image, NAME, Node, judge};

async fn ask(node: &Node, request: &CreateRequest) -> Result<VerifiedImage, VerifyError> {
    verify(&node.client().await, &node.layout(), &judge(), request).await
}

async fn ask_about(node: &Node, id: &str) -> Result<VerifiedImage, VerifyError> {
    ask(node, &node.create_request(id).await).await
}

fn refusal(result: Result<VerifiedImage, VerifyError>) -> Refusal {
    match result {
        Err(VerifyError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn container_of_an_image_is_verified_on_every_snapshotter_we_know() {
    let node = Node::start();
    let image = Image::new(&["lower", "upper"]);
    node.import(&image, NAME);
    node.ctr(&["image", "tag", NAME, "registry.example/other:1"]);
    for snapshotter in ["native", "overlayfs"] {
        node.ctr(&["container", "create", "--snapshotter", snapshotter, NAME, snapshotter]);
        let verified = ask_about(&node, snapshotter).await.unwrap();
        let facts = verified.facts();
        assert_eq!(
            (facts.target, facts.manifest, facts.config),
            (image.manifest, image.manifest, image.config)
        );
        assert_eq!(facts.diff_ids, image.diff_ids);
        assert_eq!(facts.user.0, "65532");
        assert_eq!(verified.claimed_name(), NAME);
        assert!(verified.names().iter().eq(["registry.example/other:1", NAME]), "{:?}", verified.names());
        assert!(!verified.in_cri());
    }
    let facts = examine(&node.client().await, &node.layout(), &judge(), NAME).await.unwrap();
    assert_eq!(facts.target, image.manifest);
    let unknown = examine(&node.client().await, &node.layout(), &judge(), "registry.example/none:1").await;
    assert!(matches!(unknown, Err(VerifyError::Refused(refusal)) if refusal.rule == Rule::ImageMissing));
}

#[tokio::test]
async fn image_retagged_after_create_is_refused_until_the_tag_is_back() {
    let node = Node::start();
    let image = Image::new(&["good"]);
    node.import(&image, NAME);
    node.import(&Image::new(&["evil"]), "registry.example/evil:1");
    node.import(&image, "registry.example/good:1");
    node.ctr(&["container", "create", NAME, "c"]);
    let request = node.create_request("c").await;
    assert!(ask(&node, &request).await.is_ok());
    node.ctr(&["image", "tag", "--force", "registry.example/evil:1", NAME]);
    assert_eq!(refusal(ask(&node, &request).await).rule, Rule::SnapshotChain);
    node.ctr(&["image", "tag", "--force", "registry.example/good:1", NAME]);
    assert!(ask(&node, &request).await.is_ok());
}

#[tokio::test]
async fn poisoned_tag_is_verified_as_what_it_is_and_not_as_what_it_is_called() {
    let node = Node::start();
    let (good, evil) = (Image::new(&["good"]), Image::new(&["evil"]));
    node.import(&good, NAME);
    node.import(&evil, "registry.example/evil:1");
    node.ctr(&["image", "tag", "--force", "registry.example/evil:1", NAME]);
    node.ctr(&["container", "create", NAME, "c"]);
    let verified = ask_about(&node, "c").await.unwrap();
    assert_eq!(verified.claimed_name(), NAME);
    assert_eq!(verified.facts().target, evil.manifest);
    assert_ne!(verified.facts().target, good.manifest);
}

#[tokio::test]
async fn container_with_a_root_of_its_own_is_refused() {
    let node = Node::start();
    let root = node.dir.path().join("rootfs");
    std::fs::create_dir(&root).unwrap();
    node.ctr(&["container", "create", "--rootfs", root.to_str().unwrap(), "c"]);
    assert_eq!(refusal(ask_about(&node, "c").await).rule, Rule::ImageMissing);
}

#[tokio::test]
async fn mounts_that_are_not_the_snapshots_are_refused() {
    let node = Node::start();
    node.import(&Image::new(&["good"]), NAME);
    node.ctr(&["container", "create", NAME, "c"]);
    node.ctr(&["container", "create", NAME, "other"]);
    let good = node.create_request("c").await;
    assert!(ask(&node, &good).await.is_ok());
    let mut other = good.clone();
    other.rootfs = node.create_request("other").await.rootfs;
    assert_ne!(other.rootfs, good.rootfs);
    assert_eq!(refusal(ask(&node, &other).await).rule, Rule::Rootfs);
    let mut none = good.clone();
    none.rootfs.clear();
    assert_eq!(refusal(ask(&node, &none).await).rule, Rule::Rootfs);
}

/// The squatter's snapshot is there before the image is first unpacked, so that unpacking finds it and is done.
#[tokio::test]
async fn snapshot_squatted_under_the_chain_id_with_another_parent_is_refused() {
    let node = Node::start();
    let image = Image::new(&["lower", "upper"]);
    node.import(&image, NAME);
    let top = chain_ids(&image.diff_ids).pop().unwrap().to_string();
    node.ctr(&["snapshot", "prepare", "squatter"]);
    node.ctr(&["snapshot", "commit", &top, "squatter"]);
    node.ctr(&["container", "create", NAME, "c"]);
    let refusal = refusal(ask_about(&node, "c").await);
    assert_eq!(refusal.rule, Rule::SnapshotChain);
    assert!(refusal.why.contains("no parent"), "{}", refusal.why);
}

/// What WithRemappedSnapshot leaves behind: a copy with other owners under a name of its own.
#[tokio::test]
async fn remapped_snapshot_is_refused_by_name() {
    let node = Node::start();
    let image = Image::new(&["lower", "upper"]);
    node.import(&image, NAME);
    node.ctr(&["container", "create", NAME, "plain"]);
    assert!(ask_about(&node, "plain").await.is_ok());
    let top = chain_ids(&image.diff_ids).pop().unwrap().to_string();
    let remapped = format!("{top}-100000-100000");
    node.ctr(&["snapshot", "prepare", "copy", &top]);
    node.ctr(&["snapshot", "commit", &remapped, "copy"]);
    node.ctr(&["snapshot", "prepare", "key", &remapped]);
    node.copy_container("plain", "c", |container| container.snapshot_key = "key".to_owned()).await;
    let refusal = refusal(ask_about(&node, "c").await);
    assert_eq!(refusal.rule, Rule::SnapshotChain);
    assert!(refusal.why.contains("remapped"), "{}", refusal.why);
}

#[tokio::test]
async fn snapshot_of_another_image_is_refused_whatever_the_record_says() {
    let node = Node::start();
    node.import(&Image::new(&["good"]), NAME);
    node.import(&Image::new(&["evil"]), "registry.example/evil:1");
    node.ctr(&["container", "create", NAME, "good"]);
    node.ctr(&["container", "create", "registry.example/evil:1", "evil"]);
    assert!(ask_about(&node, "good").await.is_ok());
    node.copy_container("evil", "c", |container| container.image = NAME.to_owned()).await;
    assert_eq!(refusal(ask_about(&node, "c").await).rule, Rule::SnapshotChain);
    node.copy_container("good", "gone", |container| container.snapshot_key = "none".to_owned()).await;
    let mut request = node.create_request("good").await;
    request.id = "gone".parse().unwrap();
    assert_eq!(refusal(ask(&node, &request).await).rule, Rule::Rootfs);
}

#[tokio::test]
async fn image_without_layers_is_refused() {
    let node = Node::start();
    node.import(&Image::new(&[]), NAME);
    node.ctr(&["container", "create", NAME, "c"]);
    let refusal = refusal(ask_about(&node, "c").await);
    assert_eq!(refusal.rule, Rule::ImageContents);
    assert!(refusal.why.contains("no layers"), "{}", refusal.why);
}

#[tokio::test]
async fn container_whose_image_name_is_gone_is_refused() {
    let node = Node::start();
    node.import(&Image::new(&["good"]), NAME);
    node.ctr(&["container", "create", NAME, "c"]);
    let request = node.create_request("c").await;
    node.ctr(&["image", "remove", NAME]);
    assert_eq!(refusal(ask(&node, &request).await).rule, Rule::ImageMissing);
}

#[tokio::test]
async fn blob_that_was_changed_in_the_store_is_refused_until_it_is_mended() {
    let node = Node::start();
    let image = Image::new(&["good"]);
    node.import(&image, NAME);
    node.ctr(&["container", "create", NAME, "c"]);
    let path = node.blob(&image.config);
    let good = std::fs::read(&path).unwrap();
    let evil = String::from_utf8(good.clone()).unwrap().replace("65532", "00000");
    std::fs::write(&path, evil).unwrap();
    let refusal = refusal(ask_about(&node, "c").await);
    assert_eq!(refusal.rule, Rule::ImageContents);
    assert!(refusal.why.contains("does not hash"), "{}", refusal.why);
    std::fs::write(&path, good).unwrap();
    assert!(ask_about(&node, "c").await.is_ok());
}
