use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use faultkit::TempDir;

use super::{example, stdout};

/// A layout as `skopeo` writes it, by the shell's own means: `$1` is the folder it goes to, of which each folder in `$2` is a
/// layer, in the order of their names.
const LAYOUT: &str = r#"
    mkdir -p "$1/blobs/sha256"; cd "$1"; printf '{"imageLayoutVersion":"1.0.0"}' >oci-layout
    blob() { sum=$(sha256sum "$1" | cut -d' ' -f1); size=$(stat -c %s "$1"); mv "$1" "blobs/sha256/$sum"
             printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%s}' "$2" "$sum" "$size"; }
    layers= ids=
    for layer in "$2"/*; do
        tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$layer" -cf layer.tar .
        ids="$ids${ids:+,}\"sha256:$(sha256sum layer.tar | cut -d' ' -f1)\""
        gzip -n layer.tar; layers="$layers${layers:+,}$(blob layer.tar.gz layer.v1.tar+gzip)"
    done
    case $(uname -m) in x86_64) machine=amd64;; aarch64) machine=arm64;; *) machine=$(uname -m);; esac
    printf '{"os":"linux","architecture":"%s","rootfs":{"type":"layers","diff_ids":[%s]},
        "config":{"Entrypoint":["/bin/busybox"],"Cmd":["cat","/etc/motd"],"Env":["PATH=/bin","GREETING=hello"]}}' \
        "$machine" "$ids" >config
    config=$(blob config config.v1+json)
    printf '{"schemaVersion":2,"config":%s,"layers":[%s]}' "$config" "$layers" >manifest
    printf '{"schemaVersion":2,"manifests":[%s]}' "$(blob manifest manifest.v1+json)" >index.json
"#;

/// The image in `$1`, of a shell, a greeting, and what takes a file away again and says something else.
const LAYERS: &str = r#"
    cd "$1"; mkdir -p 1/bin 1/etc 1/proc 1/dev 1/sys 2/etc 2/srv; cp "$(command -v busybox)" 1/bin/busybox
    for name in cat ls sh; do ln -s busybox 1/bin/$name; done
    echo first >1/etc/motd; echo gone >1/etc/gone; echo second >2/etc/motd; : >2/etc/.wh.gone
    dd if=/dev/urandom of=1/bin/large bs=1M count=4 2>/dev/null
"#;

fn sh(script: &str, args: &[&Path]) {
    let status = Command::new("sh").args(["-ec", script, "sh"]).args(args).status().expect("sh");
    assert!(status.success(), "{script}");
}

mod root {
    use super::*;

    #[test]
    fn layers_are_unpacked_once_and_run() {
        faultkit::require!(root, program("busybox"), program("tar"), program("gzip"), program("du"));
        faultkit::isolated!(|| {
            let temp = TempDir::new();
            let [layers, layout, archive, store] = ["layers", "layout", "layout.tar", "store"].map(|n| temp.join(n));
            fs::create_dir(&layers).expect("mkdir");
            sh(LAYERS, &[&layers]);
            sh(LAYOUT, &[&layout, &layers]);
            sh(r#"tar -C "$1" -cf "$2" oci-layout index.json blobs"#, &[&layout, &archive]);

            let printed = stdout(example("unpack_image").args([&layout, &store]));
            let folders: Vec<_> = printed.lines().map(Path::new).collect();
            assert_eq!(folders.len(), 2, "{printed}");
            // The topmost first.
            assert_eq!(fs::read_to_string(folders[0].join("etc/motd")).expect("read"), "second\n");
            sh(
                r#"cmp "$1/bin/large" "$2/1/bin/large"; cmp "$1/bin/busybox" "$2/1/bin/busybox""#,
                &[folders[1], &layers],
            );

            // The same from the archive, and another image on the same base: nothing is unpacked but what is new.
            let unpack = |image: &Path| {
                let Output { status, stdout, stderr } =
                    example("unpack_image").args([image, &store]).output().expect("start");
                assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
                (String::from_utf8(stdout).expect("text"), String::from_utf8(stderr).expect("text"))
            };
            assert_eq!(unpack(&archive), (printed.clone(), "0 layers unpacked, 2 were there\n".to_owned()));
            let kilobytes = || -> u64 {
                let text = stdout(Command::new("du").arg("-sk").arg(&store));
                text.split('\t').next().and_then(|n| n.parse().ok()).expect("number")
            };
            let before = kilobytes();
            sh(r#"echo third >"$1/2/etc/motd""#, &[&layers]);
            let other = temp.join("other");
            sh(LAYOUT, &[&other, &layers]);
            let (folders, told) = unpack(&other);
            assert_eq!(told, "1 layers unpacked, 1 were there\n");
            assert_eq!(folders.lines().last(), printed.lines().last());
            assert!(kilobytes() < before + 100, "the base is there once");

            let run = |image: &Path, command: &[&str]| {
                stdout(example("unpack_image").args([image, &store]).arg("--run").args(command))
            };
            assert_eq!(run(&layout, &[]), "second\n");
            assert_eq!(run(&other, &[]), "third\n");
            let look = "ls /etc; echo $GREETING; echo x 2>/dev/null >/etc/new || echo read-only; echo /proc/[0-9]*";
            assert_eq!(run(&layout, &["/bin/sh", "-c", look]), "motd\nhello\nread-only\n/proc/1\n");

            // An image of a single layer, as most base images are.
            let (base, single) = (temp.join("base"), temp.join("single"));
            sh(r#"mkdir "$2"; cp -a "$1/1" "$2""#, &[&layers, &base]);
            sh(LAYOUT, &[&single, &base]);
            assert_eq!(run(&single, &[]), "first\n");

            let wrong = example("unpack_image").args([&layout, &store]).args(["--tag", "no"]).output().expect("start");
            assert_eq!(wrong.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&wrong.stderr).contains("the tags in it"), "{wrong:?}");
            assert_eq!(example("unpack_image").status().expect("start").code(), Some(2));
        });
    }

    #[test]
    fn of_sixteen_processes_one_unpacks_each_layer() {
        faultkit::require!(root, program("busybox"), program("tar"), program("gzip"));
        faultkit::isolated!(|| {
            let temp = TempDir::new();
            let [layers, layout, store] = ["layers", "layout", "store"].map(|name| temp.join(name));
            fs::create_dir(&layers).expect("mkdir");
            sh(LAYERS, &[&layers]);
            sh(LAYOUT, &[&layout, &layers]);
            let start = |_| {
                let mut command = example("unpack_image");
                command
                    .args([&layout, &store])
                    .stdout(std::process::Stdio::piped())
                    .stderr(std::process::Stdio::piped());
                command.spawn().expect("start")
            };
            let all: Vec<_> = (0..16).map(start).collect();
            let (mut printed, mut unpacked) = (Vec::new(), 0);
            for child in all {
                let output = child.wait_with_output().expect("wait");
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{told}");
                unpacked += told.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("number");
                printed.push(output.stdout);
            }
            assert_eq!(unpacked, 2);
            printed.dedup();
            assert_eq!(printed.len(), 1);
            let folders = String::from_utf8(printed.remove(0)).expect("text");
            let base = Path::new(folders.lines().last().expect("base"));
            sh(r#"cmp "$1/bin/large" "$2/1/bin/large""#, &[base, &layers]);
        });
    }
}
