#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[derive(Default)]
struct Store(BTreeMap<Digest, Vec<u8>>);

impl Blobs for Store {
    fn read(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, BlobError> {
        match self.0.get(digest) {
            None => Err(BlobError::Refused("not found".to_owned())),
            Some(bytes) if bytes.len() as u64 > bytes_max => Err(BlobError::TooLarge(bytes_max)),
            Some(bytes) => Ok(bytes.clone()),
        }
    }
}

impl Store {
    fn put(&mut self, value: &Value) -> Digest {
        self.put_bytes(value.to_string().into_bytes())
    }

    fn put_bytes(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.insert(digest, bytes);
        digest
    }

    fn descriptor(&self, digest: &Digest, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest, "size": self.0[digest].len()})
    }

    /// An image whose config or manifest `change` may spoil.
    fn image(&mut self, change: impl Fn(&mut Value, &mut Value)) -> Digest {
        let diff_ids = [Digest::of(b"lower"), Digest::of(b"upper")];
        let mut config = json!({"os": "linux", "architecture": "amd64",
            "config": {"User": "1000:1000", "Volumes": {"/data": {}}, "Labels": {"a": "1", "A": "2"}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let layer = json!({"mediaType": LAYER, "digest": Digest::of(b"gzip"), "size": 7});
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer, layer], "config": {}});
        change(&mut config, &mut manifest);
        let config = self.put(&config);
        if manifest["config"] == json!({}) {
            manifest["config"] = self.descriptor(&config, CONFIG);
        }
        self.put(&manifest)
    }

    fn good(&mut self) -> Digest {
        self.image(|_, _| {})
    }

    fn index(&mut self, entries: &[(Digest, &str, Option<Value>)]) -> Digest {
        let manifests: Vec<Value> = entries
            .iter()
            .map(|(digest, media_type, platform)| {
                let mut entry = self.descriptor(digest, media_type);
                if let Some(platform) = platform {
                    entry["platform"] = platform.clone();
                }
                entry
            })
            .collect();
        self.put(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
    }
}

fn platform(architecture: &str) -> Option<Value> {
    Some(json!({"os": "linux", "architecture": architecture}))
}

fn flaw(store: &mut Store, target: &Digest) -> Flaw {
    match judge(target, store) {
        Err(TrustError::Flaw(flaw)) => flaw,
        other => panic!("no flaw: {other:?}"),
    }
}

/// The flaw of an image that `change` spoiled, which has none unspoilt.
fn flaw_of(change: impl Fn(&mut Value, &mut Value)) -> Flaw {
    let mut store = Store::default();
    let good = store.good();
    assert!(judge(&good, &mut store).is_ok());
    let target = store.image(change);
    flaw(&mut store, &target)
}

#[test]
fn manifest_is_followed_to_the_facts_of_its_config() {
    let mut store = Store::default();
    let target = store.good();
    let facts = judge(&target, &mut store).unwrap();
    assert_eq!((facts.target, facts.manifest), (target, target));
    assert_eq!(facts.diff_ids, [Digest::of(b"lower"), Digest::of(b"upper")]);
    assert_eq!(facts.user.0, "1000:1000");
    assert!(facts.volumes.iter().eq(["/data"]));
    assert!(store.0.contains_key(&facts.config));
}

#[test]
fn index_leads_to_the_entry_that_containerd_chooses() {
    let mut store = Store::default();
    let good = store.good();
    let other = store.image(|config, _| config["config"]["User"] = "other".into());
    let arm = (other, MANIFEST, platform("arm64"));
    let i386 = (other, MANIFEST, platform("386"));
    let v3 = (other, MANIFEST, Some(json!({"os": "linux", "architecture": "amd64", "variant": "v3"})));
    let silent = (other, MANIFEST, None);
    let amd64 = (good, MANIFEST, platform("amd64"));
    let second = (other, MANIFEST, platform("amd64"));
    let unknown = (other, MANIFEST, Some(json!({"os": "unknown", "architecture": "unknown"})));
    let index = store.index(&[arm, i386, v3, silent, unknown, amd64, second]);
    let facts = judge(&index, &mut store).unwrap();
    assert_eq!((facts.target, facts.manifest), (index, good));
}

#[test]
fn index_without_platforms_leads_to_its_first_entry_if_the_config_suits() {
    let mut store = Store::default();
    let good = store.good();
    let arm = store.image(|config, _| config["architecture"] = "arm64".into());
    let index = store.index(&[(good, MANIFEST, None), (arm, MANIFEST, None)]);
    assert_eq!(judge(&index, &mut store).unwrap().manifest, good);
    let index = store.index(&[(arm, MANIFEST, None), (good, MANIFEST, None)]);
    assert!(matches!(flaw(&mut store, &index), Flaw::Platform { .. }));
}

#[test]
fn image_of_other_platforms_only_is_a_flaw_that_names_them() {
    let mut store = Store::default();
    let good = store.good();
    for architecture in ["arm64", "386"] {
        let index = store.index(&[(good, MANIFEST, platform(architecture))]);
        let Flaw::NoPlatform { found, .. } = flaw(&mut store, &index) else { panic!("another flaw") };
        assert_eq!(found, format!("linux/{architecture}"));
    }
    let empty = store.index(&[]);
    assert!(matches!(flaw(&mut store, &empty), Flaw::NoPlatform { .. }));
}

#[test]
fn indexes_nest_to_a_limit() {
    let mut store = Store::default();
    let mut target = store.good();
    for depth in 1..=INDEX_DEPTH_MAX {
        let media_type = if depth == 1 { MANIFEST } else { INDEX };
        target = store.index(&[(target, media_type, None)]);
        assert!(judge(&target, &mut store).is_ok(), "at depth {depth}");
    }
    target = store.index(&[(target, INDEX, None)]);
    assert_eq!(flaw(&mut store, &target), Flaw::Depth);
}

#[test]
fn docker_media_types_are_accepted_and_mixed_ones_are_a_flaw() {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let docker = |_: &mut Value, manifest: &mut Value| {
        manifest["mediaType"] = DOCKER.into();
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
        }
    };
    let mut store = Store::default();
    let target = store.image(docker);
    assert!(judge(&target, &mut store).is_ok());
    let index = store.index(&[(target, DOCKER, platform("amd64"))]);
    assert!(judge(&index, &mut store).is_ok());
    let index = store.index(&[(target, MANIFEST, platform("amd64"))]);
    assert!(matches!(flaw(&mut store, &index), Flaw::MediaType { part: "descriptor", .. }));
    let index = store.index(&[(target, INDEX, platform("amd64"))]);
    assert!(matches!(flaw(&mut store, &index), Flaw::MediaType { part: "descriptor", .. }));
}

#[test]
fn manifest_without_media_type_of_its_own_is_accepted() {
    let mut store = Store::default();
    let target = store.image(|_, manifest| drop(manifest.as_object_mut().unwrap().remove("mediaType")));
    assert!(judge(&target, &mut store).is_ok());
}

#[test]
fn bytes_that_hash_to_something_else_are_no_facts_and_no_flaw() {
    let mut store = Store::default();
    let target = store.good();
    let facts = judge(&target, &mut store).unwrap();
    for digest in [facts.config, facts.manifest] {
        let bytes = store.0[&digest].clone();
        store.0.get_mut(&digest).unwrap().push(b' ');
        let error = judge(&target, &mut store).unwrap_err();
        assert!(matches!(error, TrustError::Blob { error: BlobError::Hash(_), .. }), "{error:?}");
        store.0.insert(digest, bytes);
    }
    assert!(judge(&target, &mut store).is_ok());
}

#[test]
fn missing_blob_is_no_flaw_of_the_image() {
    let mut store = Store::default();
    let target = store.good();
    let config = judge(&target, &mut store).unwrap().config;
    store.0.remove(&config);
    assert!(matches!(judge(&target, &mut store), Err(TrustError::Blob { digest, .. }) if digest == config));
}

#[test]
fn size_of_a_descriptor_must_be_that_of_the_bytes() {
    let mut store = Store::default();
    let config = store.put(&json!({"os": "linux"}));
    for size in [1, 1000] {
        let mut descriptor = store.descriptor(&config, CONFIG);
        descriptor["size"] = size.into();
        let target = store.image(|_, manifest| manifest["config"] = descriptor.clone());
        assert!(matches!(flaw(&mut store, &target), Flaw::Size { .. }));
    }
}

#[test]
fn large_documents_are_a_flaw_before_they_are_parsed() {
    let pad = |bytes: u64| "x".repeat(usize::try_from(bytes).unwrap());
    let large = flaw_of(|_, manifest| manifest["annotations"] = json!({"a": pad(MANIFEST_BYTES_MAX)}));
    assert!(matches!(large, Flaw::TooLarge { document: "manifest", .. }));
    let large = flaw_of(|config, _| config["author"] = pad(JUDGE_BLOB_BYTES_MAX).into());
    assert!(matches!(large, Flaw::TooLarge { document: "config", .. }));
    let mut store = Store::default();
    let target = store.image(|config, _| config["author"] = pad(JUDGE_BLOB_BYTES_MAX / 2).into());
    assert!(judge(&target, &mut store).is_ok());
}

#[test]
fn documents_that_mean_two_things_are_flaws() {
    assert!(matches!(flaw_of(|_, m| m["manifests"] = json!([])), Flaw::Polyglot(_)));
    assert!(matches!(flaw_of(|_, m| m["Layers"] = json!([])), Flaw::Json { .. }));
    assert!(matches!(flaw_of(|c, _| c["rootfs"]["Diff_IDs"] = json!([])), Flaw::Json { .. }));
    assert!(matches!(flaw_of(|c, _| c["Rootfs"] = json!({})), Flaw::Json { .. }));
    assert!(matches!(flaw_of(|c, _| c["config"]["user"] = "0".into()), Flaw::Json { .. }));
    assert!(matches!(flaw_of(|_, m| m["mediaType"] = INDEX.into()), Flaw::MediaType { .. }));
}

#[test]
fn schema_1_and_other_versions_are_flaws() {
    assert!(matches!(flaw_of(|_, m| m["schemaVersion"] = 1.into()), Flaw::Schema1(_)));
    assert!(matches!(flaw_of(|_, m| m["fsLayers"] = json!([])), Flaw::Schema1(_)));
    assert!(matches!(flaw_of(|_, m| m["schemaVersion"] = 3.into()), Flaw::SchemaVersion { .. }));
    assert!(matches!(flaw_of(|_, m| *m = json!({"schemaVersion": 2})), Flaw::NoImage(_) | Flaw::Json { .. }));
}

#[test]
fn artifacts_that_are_no_images_are_flaws() {
    let helm = "application/vnd.cncf.helm.config.v1+json";
    let config = flaw_of(|_, m| {
        m["config"] = json!({"mediaType": helm, "digest": Digest::of(b"x"), "size": 1});
    });
    assert!(matches!(config, Flaw::MediaType { part: "config", .. }));
    for media_type in ["application/vnd.erofs.layer.v1", "", "application/vnd.oci.image.layer.v1.tar+brotli"]
    {
        let layer = flaw_of(|_, m| m["layers"][1]["mediaType"] = media_type.into());
        assert!(matches!(layer, Flaw::MediaType { part: "layer", .. }), "{media_type}");
    }
}

#[test]
fn checkpoint_images_are_refused_by_name() {
    let flaw = flaw_of(|_, m| m["annotations"] = json!({"org.criu.checkpoint.container.name": "x"}));
    assert!(matches!(flaw, Flaw::Checkpoint(_)));
}

#[test]
fn layers_that_are_missing_too_many_or_disagree_are_flaws() {
    let ids = |n: usize| -> Value { (0..n).map(|n| json!(Digest::of(&n.to_le_bytes()))).collect() };
    assert!(matches!(flaw_of(|c, _| c["rootfs"]["diff_ids"] = json!([])), Flaw::NoLayers(_)));
    assert!(matches!(flaw_of(|c, _| c["rootfs"]["diff_ids"] = ids(128)), Flaw::Layers { found: 128, .. }));
    assert!(matches!(flaw_of(|c, _| c["rootfs"]["diff_ids"] = ids(1)), Flaw::LayerCount { .. }));
    assert!(matches!(flaw_of(|c, _| c["rootfs"]["diff_ids"] = ids(3)), Flaw::LayerCount { .. }));
    assert!(matches!(flaw_of(|c, _| c["rootfs"]["diff_ids"][0] = "sha512:00".into()), Flaw::Json { .. }));
    assert!(matches!(flaw_of(|c, _| c["rootfs"]["type"] = "layers+base".into()), Flaw::RootfsType { .. }));
    assert!(matches!(flaw_of(|c, _| c["rootfs"] = Value::Null), Flaw::Json { .. }));
    let mut store = Store::default();
    let target = store.image(|config, manifest| {
        config["rootfs"]["diff_ids"] = ids(127);
        manifest["layers"] = Value::Array(vec![manifest["layers"][0].clone(); 127]);
    });
    assert_eq!(judge(&target, &mut store).unwrap().diff_ids.len(), 127);
}

#[test]
fn config_of_another_platform_is_a_flaw_unless_the_index_vouches_for_it() {
    assert!(matches!(flaw_of(|c, _| c["os"] = "windows".into()), Flaw::Platform { .. }));
    assert!(matches!(flaw_of(|c, _| c["architecture"] = Value::Null), Flaw::Platform { .. }));
    let mut store = Store::default();
    let arm = store.image(|config, _| config["architecture"] = "arm64".into());
    let index = store.index(&[(arm, MANIFEST, platform("amd64"))]);
    assert!(judge(&index, &mut store).is_ok());
}

#[test]
fn exposed_ports_are_those_of_tcp() {
    let mut store = Store::default();
    let target = store.image(|config, _| {
        config["config"]["ExposedPorts"] = serde_json::json!({
            "80/tcp": {}, "443": {}, "53/udp": {}, "0/tcp": {}, "70000/tcp": {}, "-1": {}, "+7/tcp": {}, "x": {}, "8000-8010": {}
        });
    });
    assert!(judge(&target, &mut store).unwrap().exposed.into_iter().eq([80, 443]));
    let none = store.good();
    assert!(judge(&none, &mut store).unwrap().exposed.is_empty());
}

#[test]
fn endless_user_or_volumes_are_a_flaw() {
    let long = flaw_of(|c, _| c["config"]["User"] = "x".repeat(70_000).into());
    assert!(matches!(long, Flaw::Facts(_)));
    let mut store = Store::default();
    let target = store.image(|config, _| config["config"] = Value::Null);
    assert_eq!(judge(&target, &mut store).unwrap().user.0, "");
}

proptest::proptest! {
    /// Whatever one byte of a document becomes, the judge answers without a panic, and never with facts about it
    /// under the old digest.
    #[test]
    fn no_changed_byte_is_believed(at in 0usize..400, byte in proptest::num::u8::ANY) {
        let mut store = Store::default();
        let target = store.good();
        let mut bytes = store.0[&target].clone();
        let at = at % bytes.len();
        proptest::prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        let spoilt = store.put_bytes(bytes.clone());
        if let Ok(facts) = judge(&spoilt, &mut store) {
            proptest::prop_assert_eq!(facts.target, spoilt);
        }
        store.0.insert(target, bytes);
        let is_hash_error = matches!(judge(&target, &mut store), Err(TrustError::Blob { .. }));
        proptest::prop_assert!(is_hash_error);
    }
}
