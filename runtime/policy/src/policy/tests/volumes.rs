//! Images that a container sees and does not run.

use bulkhead_binding::{ObservedVolume, VolumeClaim};

use super::*;

/// The image of a pod whose container sees another image, of this name, as a volume.
fn image_with_volume(volume: &str) -> VerifiedImage {
    let (facts, model) = (example::facts("app"), example::facts("model"));
    let place = PathBuf::from(format!("/run/image-volumes/s/{}", model.target.hex()));
    let of_volume = example::observed(&model, volume);
    let mut chain = of_volume.chain;
    chain[0].name = place.display().to_string();
    let mut observed = example::observed(&facts, APP);
    observed.claim.cri = CriRecord::Container(CriContainer {
        config: facts.config,
        requested_name: None,
        image_volumes: vec![VolumeClaim {
            name: volume.to_owned(),
            destination: "/model".into(),
            host_path: Some(place.clone()),
        }],
    });
    observed.volumes.push(ObservedVolume {
        sandbox: "s".parse().unwrap(),
        facts: model,
        names: of_volume.names,
        chain,
        mounts: of_volume.mounts,
        source: Some(place),
    });
    bind(&facts, &observed, &observed.mounts).unwrap()
}

#[test]
fn image_volume_of_a_scope_is_admitted_and_one_of_none_is_refused_by_name() {
    let model_target = example::facts("model").target.to_string();
    let with_model =
        format!("{BY_TARGET}\n\"registry.example/models/**\" = {{ digests = [\"{model_target}\"] }}");
    let (model, other) =
        (image_with_volume("registry.example/models/a:1"), image_with_volume("registry.example/other/a:1"));
    let grant = policy(&with_model).admit(&model, &request()).unwrap();
    assert_eq!(grant.image_volumes().len(), 1);
    assert_eq!(grant.scope(), Some("registry.example/team-a/**"));
    for (text, image) in [(with_model.as_str(), &other), (BY_TARGET, &model)] {
        let refusal = refusal(&policy(text), image);
        assert_eq!(refusal.rule, Rule::ImageScope);
        assert!(refusal.what.contains("the volume on /model of container c1"), "{refusal}");
    }
    let moved = with_model.replace(&model_target, "OTHER");
    assert_eq!(refusal(&policy(&moved), &model).rule, Rule::ImageDigest);
}

#[test]
fn image_volume_must_pass_the_tenants_file_too() {
    let model_target = example::facts("model").target;
    let node = format!("{BY_TARGET}\n\"registry.example/models/**\" = {{ digests = [\"{model_target}\"] }}");
    let image = image_with_volume("registry.example/models/a:1");
    let narrow = "[image]\n\"registry.example/team-a/**\" = {}";
    assert_eq!(refusal(&policies(&node, narrow), &image).rule, Rule::ImageScope);
    let wide = "[image]\n\"registry.example/**\" = {}";
    policies(&node, wide).admit(&image, &request()).unwrap();
}

#[test]
fn audit_lets_an_image_volume_through_says_so_and_hands_nobody_the_node() {
    let text = "mode = \"audit\"\n[image]\n\"registry.example/team-a/**\" = { digests = [\"TARGET\"], confine = \"it\" }\n\
                [confine.it]\nlevel = \"compatible\"\nnamespaces = [\"*\"]";
    let image = image_with_volume("registry.example/other/a:1");
    let grant = policy(text).admit(&image, &request()).unwrap();
    assert_eq!(grant.would_refuse().map(|refusal| refusal.rule), Some(Rule::ImageScope));
    assert_eq!(grant.confinement().level, Level::Hardened);
    let without = pod_image(APP, &[]);
    assert_eq!(policy(text).admit(&without, &request()).unwrap().confinement().level, Level::Compatible);
}
