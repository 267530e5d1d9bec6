//! Containers of pods, with the record that containerd's CRI plugin would have written.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use bulkhead_containerd::{VerifiedImage, VerifyError, verify};
use bulkhead_model::{ContainerKind, CreateRequest, Digest, Rule, chain_ids};
use common::{Image, NAME, Node, judge};
use serde_json::{Value, json};

const CONTAINER: &str = "io.cri-containerd.container.metadata";
const SANDBOX: &str = "io.cri-containerd.sandbox.metadata";

/// Copies container `plain` to `id`, with an extension.
async fn create(node: &Node, id: &str, key: &str, image: &str, metadata: &Value) -> CreateRequest {
    let value = json!({"Version": "v1", "Metadata": metadata}).to_string().into_bytes();
    let type_url = "github.com/containerd/cri/pkg/store/container/Metadata".to_owned();
    node.copy_container("plain", id, |container| {
        container.image = image.to_owned();
        container.extensions.insert(key.to_owned(), prost_types::Any { type_url, value });
    })
    .await;
    let mut request = node.create_request(id).await;
    request.tenant.namespace = "payments".parse().unwrap();
    request.kind = match key {
        CONTAINER => ContainerKind::InSandbox { sandbox: "s".parse().unwrap() },
        _ => ContainerKind::Sandbox,
    };
    request
}

async fn ask(node: &Node, request: &CreateRequest) -> Result<VerifiedImage, VerifyError> {
    verify(&node.client().await, &node.layout(), &judge(), request).await
}

fn rule(result: Result<VerifiedImage, VerifyError>) -> Rule {
    match result {
        Err(VerifyError::Refused(refusal)) => refusal.rule,
        other => panic!("not refused: {other:?}"),
    }
}

fn node(image: &Image) -> Node {
    let node = Node::start_in("k8s.io");
    node.import(image, NAME);
    node.ctr(&["image", "tag", NAME, &image.config.to_string()]);
    node.ctr(&["container", "create", NAME, "plain"]);
    node
}

#[tokio::test]
async fn record_must_name_the_config_of_the_image_whatever_reference_it_claims() {
    let image = Image::new(&["good"]);
    let node = node(&image);
    let right = json!({"ImageRef": image.config, "Config": {"image": {"user_specified_image": NAME}}});
    for (id, claimed) in [("by-name", NAME.to_owned()), ("by-id", image.config.to_string())] {
        let request = create(&node, id, CONTAINER, &claimed, &right).await;
        let verified = ask(&node, &request).await.unwrap();
        assert!(verified.in_cri());
        assert_eq!(verified.claimed_name(), claimed);
        assert!(verified.names().iter().eq([NAME]), "{:?}", verified.names());
    }
    let wrong = json!({"ImageRef": Digest::of(b"other"), "Config": {}});
    let request = create(&node, "wrong", CONTAINER, NAME, &wrong).await;
    assert_eq!(rule(ask(&node, &request).await), Rule::ImageContents);
}

#[tokio::test]
async fn claimed_name_that_is_gone_falls_back_to_the_reference_by_config() {
    let image = Image::new(&["good"]);
    let node = node(&image);
    let metadata = json!({"ImageRef": image.config, "Config": {}});
    let request = create(&node, "c", CONTAINER, "registry.example/gone:1", &metadata).await;
    assert!(ask(&node, &request).await.is_ok());
    node.ctr(&["image", "remove", &image.config.to_string()]);
    assert_eq!(rule(ask(&node, &request).await), Rule::ImageMissing);
}

#[tokio::test]
async fn names_of_another_target_with_the_same_config_count_too() {
    let image = Image::new(&["good"]);
    let node = node(&image);
    let index = image.in_index();
    node.import(&index, "registry.example/strict/app:1");
    let metadata = json!({"ImageRef": image.config,
        "Config": {"image": {"user_specified_image": "registry.example/strict/app:1"}}});
    let request = create(&node, "c", CONTAINER, NAME, &metadata).await;
    let verified = ask(&node, &request).await.unwrap();
    assert!(verified.names().iter().eq(["registry.example/strict/app:1", NAME]), "{:?}", verified.names());

    node.import(&Image::new(&["other"]), "registry.example/strict/app:1");
    let verified = ask(&node, &request).await.unwrap();
    assert!(verified.names().iter().eq([NAME]), "{:?}", verified.names());
}

const MODEL: &str = "registry.example/models:1";

/// Name of the snapshot of all its layers.
fn chain(image: &Image) -> String {
    chain_ids(&image.diff_ids).last().unwrap().to_string()
}

/// A container `id` of a pod `s` whose record says that the image volume on /models has its snapshot at `place`.
async fn with_volume(node: &Node, image: &Image, id: &str, place: Option<&str>) -> CreateRequest {
    let mount = json!({"container_path": "/models", "host_path": place.unwrap_or_default(),
        "image": {"image": MODEL, "user_specified_image": MODEL}});
    let metadata = json!({"ImageRef": image.config, "Config": {"mounts": [mount]}});
    let mut request = create(node, id, CONTAINER, NAME, &metadata).await;
    let mount =
        json!({"destination": "/models", "type": "bind", "source": place, "options": ["rbind", "ro"]});
    let mut mounts = request.spec.mounts().clone().unwrap_or_default();
    mounts.push(serde_json::from_value(mount).unwrap());
    request.spec.set_mounts(Some(mounts));
    request
}

#[tokio::test]
async fn image_volume_is_bound_to_the_digest_that_its_snapshot_is_named_by() {
    let (image, model) = (Image::new(&["good"]), Image::new(&["model", "more"]));
    let node = node(&image);
    node.import(&model, MODEL);
    // Unpacks it.
    node.ctr(&["container", "create", MODEL, "model"]);
    let place = |image: &Image| format!("/run/cri/image-volumes/s/{}", image.manifest.hex());
    node.ctr(&["snapshots", "prepare", &place(&model), &chain(&model)]);
    let request = with_volume(&node, &image, "good", Some(&place(&model))).await;
    let verified = ask(&node, &request).await.unwrap();
    let [volume] = verified.volumes() else { panic!("{verified:?}") };
    assert_eq!(volume.facts().config, model.config);
    assert!(volume.names().iter().eq([MODEL]), "{:?}", volume.names());
    let options = &volume.volume().layers.options;
    assert!(options.iter().all(|option| !option.contains("upperdir") && !option.contains("workdir")));

    // Prepared on another image, and a place that no snapshot is named by.
    let other = format!("{}/etc", place(&image));
    node.ctr(&["snapshots", "prepare", &place(&image), &chain(&model)]);
    let request = with_volume(&node, &image, "squatted", Some(&other)).await;
    assert_eq!(rule(ask(&node, &request).await), Rule::SnapshotChain);
    for (id, place) in [("none", None), ("elsewhere", Some("/srv/models"))] {
        let request = with_volume(&node, &image, id, place).await;
        assert_eq!(rule(ask(&node, &request).await), Rule::Mounts);
    }
    node.ctr(&["snapshots", "remove", &place(&model)]);
    let request = with_volume(&node, &image, "gone", Some(&place(&model))).await;
    assert_eq!(rule(ask(&node, &request).await), Rule::SnapshotChain);
}

#[tokio::test]
async fn annotations_of_a_pod_without_its_record_are_refused() {
    let image = Image::new(&["good"]);
    let node = node(&image);
    let request = create(&node, "pod", SANDBOX, NAME, &json!({"ID": "pod"})).await;
    assert!(ask(&node, &request).await.unwrap().in_cri());
    let plain = node.create_request("plain").await;
    assert!(!ask(&node, &plain).await.unwrap().in_cri());
    let mut forged = plain.clone();
    forged.tenant.namespace = "payments".parse().unwrap();
    assert_eq!(rule(ask(&node, &forged).await), Rule::Spec);
    forged.kind = ContainerKind::Sandbox;
    assert_eq!(rule(ask(&node, &forged).await), Rule::Spec);
}

#[tokio::test]
async fn record_that_cannot_be_read_is_a_failure() {
    let image = Image::new(&["good"]);
    let node = node(&image);
    let request = create(&node, "c", CONTAINER, NAME, &json!({"ImageRef": "latest"})).await;
    assert!(matches!(ask(&node, &request).await, Err(VerifyError::Failed(_))));
}
