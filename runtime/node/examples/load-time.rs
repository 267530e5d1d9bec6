//! Time of `load_policy` for a policy of 100 scopes with a tenant's file, warm: minimum and median of 1000.
use std::time::Instant;
fn main() {
    let dir = std::env::temp_dir().join(format!("load-time.{}", std::process::id()));
    let layout = bulkhead_model::Layout::below(&dir);
    std::fs::create_dir_all(layout.config_dir().join("tenants")).expect("mkdir");
    let scopes: String = (0..100)
        .map(|n| {
            format!(
                "\"registry.example/team-{n}/**\" = {{ digests = [\"{}\"] }}\n",
                bulkhead_model::Digest::of(&[n])
            )
        })
        .collect();
    let text = format!("version = 1\n[image]\n{scopes}[confine.default]\nexec = [\"/bin/true\"]\n");
    std::fs::write(layout.policy_file(), &text).expect("write");
    let tenant = "t".parse().expect("namespace");
    std::fs::write(layout.tenant_file(&tenant), "version = 1\n[image]\n\"**\" = {}\n").expect("write");
    let mut times: Vec<_> = (0..1000)
        .map(|_| {
            let start = Instant::now();
            bulkhead_node::load_policy(&layout, None, &tenant).expect("policy");
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("min {:?} median {:?}", times[0], times[500]);
    std::fs::remove_dir_all(dir).expect("rm");
}
