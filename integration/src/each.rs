//! One test per containerd.

/// Makes a test function for each containerd that the runtime has to serve.
///
/// `on_each_containerd! { fn a_sentence(release) { … } }` gives `a_sentence::on_system`, `…::on_1_7` and `…::on_2_1`;
/// with `on_each_cri!` the system's, which is too old for pods here, is left out.
#[macro_export]
macro_rules! on_each_containerd {
    ($($(#[$meta:meta])* fn $name:ident($release:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            fn body($release: $crate::Release) $body

            $(#[$meta])*
            #[test]
            fn on_system() {
                body($crate::Release::System);
            }

            $(#[$meta])*
            #[test]
            fn on_1_7() {
                body($crate::Release::V1_7);
            }

            $(#[$meta])*
            #[test]
            fn on_2_1() {
                body($crate::Release::V2_1);
            }
        }
    )*};
}

/// As [`on_each_containerd`], for containerds that serve CRI v1 pods.
#[macro_export]
macro_rules! on_each_cri {
    ($($(#[$meta:meta])* fn $name:ident($release:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            fn body($release: $crate::Release) $body

            $(#[$meta])*
            #[test]
            fn on_1_7() {
                body($crate::Release::V1_7);
            }

            $(#[$meta])*
            #[test]
            fn on_2_1() {
                body($crate::Release::V2_1);
            }
        }
    )*};
}
