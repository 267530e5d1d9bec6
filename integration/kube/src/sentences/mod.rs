//! What is so on a node of Kubernetes, a sentence each.

mod deployment;
mod gates;
mod keeps_on;
mod static_pods;
mod volumes;

use crate::node::Node;

/// What is so, and how it is seen; it panics where it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sentence {
    /// The sentence.
    pub(crate) name: &'static str,
    /// Whether others may use the node meanwhile.
    pub(crate) shares: Shares,
}

/// What a sentence shares with others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shares {
    /// The node: others use it at the same time.
    Node(fn(&Node)),
    /// Nothing: it changes the node itself, after all others, in the order of the list.
    Nothing(fn(&mut Node)),
}

macro_rules! sentences {
    (shared { $($shared:ident :: $one:ident,)* } alone { $($alone:ident :: $other:ident,)* }) => {
        /// All of them. The longest first: they wait beside the others.
        pub(crate) const ALL: &[Sentence] = &[
            $(Sentence { name: stringify!($one), shares: Shares::Node($shared::$one) },)*
            $(Sentence { name: stringify!($other), shares: Shares::Nothing($alone::$other) },)*
        ];
    };
}

sentences! {
    shared {
        gates::an_unpinned_image_is_refused_in_the_description_and_does_not_hammer_the_node,
        deployment::a_deployment_is_probed_logs_scales_rolls_and_is_deleted,
        volumes::a_changed_configmap_is_seen_by_the_container_that_runs,
        static_pods::a_static_pod_without_runtime_class_meets_the_policy_of_the_node,
        gates::a_pod_of_the_runtime_class_is_confined_and_one_of_runc_is_not,
        gates::two_namespaces_have_two_policies,
        gates::a_command_that_policy_names_is_executed_and_another_is_refused_with_its_reason,
        gates::a_probe_that_policy_does_not_name_leaves_the_pod_unready_and_says_why,
        gates::what_no_tenant_may_ask_for_is_refused_with_the_name_of_the_field,
        volumes::a_pod_without_users_of_the_host_has_ids_of_its_own,
        volumes::files_of_a_volume_belong_to_its_group_and_to_no_other,
        volumes::a_sub_path_shows_its_part_and_no_more,
        volumes::an_image_that_policy_names_is_mounted_as_a_volume_and_another_is_refused,
        gates::a_container_that_is_added_to_a_pod_that_runs_is_judged_as_any_other,
        gates::a_privileged_pod_of_the_nodes_own_runs_and_the_same_of_a_tenant_is_refused,
        deployment::containers_of_a_pod_share_its_processes_where_it_asks_and_its_network_always,
        deployment::a_container_is_resized_while_it_runs,
        deployment::a_job_ends_and_its_pod_tells_how,
    }
    alone {
        gates::what_a_refusal_says_to_add_lets_the_pod_run_that_was_refused,
        keeps_on::kubelet_and_containerd_restart_and_no_container_notices,
        keeps_on::nothing_is_left_of_pods_that_were_deleted,
    }
}
