//! Layers that somebody hostile has filled.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mountkit::{Bind, MountAttr, Overlay, OverlayXattrs, RedirectDir};

use crate::dirs::{Dirs, names, plant, run, text};

/// A base with a secret, and a top layer whose attributes point at it.
fn plant_all(dirs: &Dirs, prefix: &str) {
    dirs.write("base/secret", "the secret");
    dirs.write("base/private/key", "the key");
    dirs.write("top/file", "");
    plant(&dirs.path("top/file"), &format!("{prefix}.metacopy"), "");
    plant(&dirs.path("top/file"), &format!("{prefix}.redirect"), "/secret");
    fs::create_dir(dirs.path("top/dir")).expect("mkdir");
    plant(&dirs.path("top/dir"), &format!("{prefix}.redirect"), "/private");
    dirs.write("base/seen/below", "below");
    fs::create_dir(dirs.path("top/seen")).expect("mkdir");
}

/// What the file holds and the directory has; the kernel refuses what points elsewhere, or takes no notice of it.
fn shows(dirs: &Dirs, overlay: &Overlay) -> (Option<String>, Vec<String>) {
    dirs.with(overlay, |at| {
        let dir = at.join("dir");
        let seen = if fs::read_dir(&dir).is_ok() { names(&dir) } else { Vec::new() };
        (fs::read_to_string(at.join("file")).ok(), seen)
    })
}

#[test]
fn trusted_attributes_of_a_layer_redirect_nothing() {
    faultkit::require!(root, program("setfattr"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        plant_all(&dirs, "trusted.overlay");
        for overlay in [dirs.lowers(), dirs.writable()] {
            let (file, dir) = shows(&dirs, &overlay);
            assert_ne!(file.as_deref(), Some("the secret"));
            assert!(dir.is_empty(), "{dir:?}");
        }
        // They are real: who asks for them gets them.
        let (file, dir) = shows(&dirs, &dirs.lowers().redirect_dir(RedirectDir::On).metacopy());
        assert_eq!((file.as_deref(), dir), (Some("the secret"), vec!["key".to_owned()]));
    });
}

#[test]
fn user_attributes_of_a_layer_redirect_nothing() {
    faultkit::require!(root, kernel(6.6), program("setfattr"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        plant_all(&dirs, "user.overlay");
        plant(&dirs.path("top/seen"), "user.overlay.opaque", "y");
        for overlay in
            [dirs.lowers(), dirs.lowers().xattrs(OverlayXattrs::User), dirs.writable().xattrs(OverlayXattrs::User)]
        {
            let (file, dir) = shows(&dirs, &overlay);
            assert_ne!(file.as_deref(), Some("the secret"));
            assert!(dir.is_empty(), "{dir:?}");
        }
        // Opaque is all that counts, and only where notes are kept in user attributes.
        assert_eq!(dirs.with(&dirs.lowers(), |at| names(&at.join("seen"))), ["below"]);
        let user = dirs.lowers().xattrs(OverlayXattrs::User);
        assert!(dirs.with(&user, |at| names(&at.join("seen"))).is_empty());
    });
}

#[test]
fn a_set_user_id_program_of_a_nosuid_layer_stays_inert() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        fs::copy("/usr/bin/id", dirs.path("base/id")).expect("cp");
        fs::set_permissions(dirs.path("base/id"), fs::Permissions::from_mode(0o4755)).expect("chmod");
        let user = faultkit::ordinary_user();
        let id = |overlay: &Overlay| {
            dirs.with(overlay, |at| {
                let output = user.command(at.join("id")).arg("-u").output().expect("id");
                (
                    String::from_utf8_lossy(&output.stdout).trim().to_owned(),
                    run("findmnt", &["-nro", "VFS-OPTIONS", text(at)]),
                )
            })
        };
        assert_eq!(id(&dirs.lowers()).0, "0", "it works where it may");
        // The same layer, from a mount that is nosuid.
        fs::create_dir(dirs.path("inert")).expect("mkdir");
        let bind = Bind::new(dirs.path("base")).attrs(MountAttr::NOSUID | MountAttr::NODEV).mount().expect("bind");
        bind.attach(&mountkit::RootFd::open(dirs.path(".")).expect("open"), "inert").expect("attach");
        let (uid, flags) = id(&Overlay::new().lowers([dirs.path("top"), dirs.path("inert")]));
        assert_eq!((uid.as_str(), flags.as_str()), ("12345", "rw,nosuid,nodev,relatime"));
        run("umount", &[text(&dirs.path("inert"))]);
    });
}

#[test]
fn a_layer_whose_path_is_made_of_options() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        let odd = "x,upperdir=elsewhere:y\\,metacopy=on";
        dirs.write(&format!("{odd}/file"), "odd");
        let overlay = Overlay::new().lower(dirs.path(odd)).lower(dirs.path("base"));
        assert_eq!(dirs.with(&overlay, |_| dirs.read("at/file")), "odd");
        let refused = dirs.with(&overlay, |at| fs::write(at.join("new"), "").expect_err("no upper directory"));
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    });
}

/// By another program: what `ls` and `getfattr` see of an overlay does not have the layers' notes.
#[test]
fn notes_are_not_seen_through_the_overlay() {
    faultkit::require!(root, program("getfattr"));
    faultkit::isolated!(|| {
        let dirs = Dirs::new();
        plant_all(&dirs, "trusted.overlay");
        let seen = dirs.with(&dirs.writable(), |at| {
            let output = Command::new("getfattr").args(["-R", "-d", "-m", "-", text(at)]).output().expect("getfattr");
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        assert!(!seen.contains("overlay."), "{seen}");
    });
}
