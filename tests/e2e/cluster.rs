//! The cluster under test: a node of our own, or one that was there before. And a shell to use it from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::node::Node;
use crate::screen::{Failed, Screen};

/// Where the commands run: they name `charts/` and `examples/`.
pub const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// What a command printed, on both outputs in the order written, and whether it succeeded.
pub struct Ran {
    pub text: String,
    pub success: bool,
}

pub struct Cluster {
    kubeconfig: PathBuf,
    /// With kubectl and helm in it.
    search_path: OsString,
    /// Of the shell on our node: kubectl and helm keep their caches there. For another cluster they may need the user's.
    home: Option<TempDir>,
    /// How an existing cluster gets an image.
    load: Option<String>,
    node: Option<Node>,
}

impl Cluster {
    /// Starts one, or finds the one that is there, and gives it the images.
    pub fn start(screen: &mut Screen) -> Result<Self, Failed> {
        let existing = std::env::var_os("CMK_E2E_KUBECONFIG");
        if existing.is_none() && !rustix::process::geteuid().is_root() {
            // Before minutes of building.
            screen.expect("a node needs root: run it as root, or set CMK_E2E_KUBECONFIG to use a cluster", false)?;
        }
        let operator = match std::env::var_os("CMK_E2E_IMAGE") {
            Some(image) => image.into(),
            None => built(screen, "building the operator's image (about 6 minutes the first time)", "image/build")?,
        };
        let application = built(screen, "building the application's image", "tests/e2e/app/build")?;
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let cluster = if let Some(kubeconfig) = existing {
            let load = std::env::var("CMK_E2E_LOAD_IMAGE").ok();
            Self { kubeconfig: kubeconfig.into(), search_path: inherited, home: None, load, node: None }
        } else {
            let binaries = built(
                screen,
                "building Kubernetes, containerd, CoreDNS and helm (about 15 minutes the first time; Debian's packages as well)",
                "tests/node/build",
            )?;
            let directories = [binaries].into_iter().chain(std::env::split_paths(&inherited));
            let search_path = std::env::join_paths(directories).expect("directories without a colon in their names");
            let home = tempfile::Builder::new().prefix("cmk-e2e-home-").tempdir().expect("a temporary directory");
            let node = Node::up(screen)?;
            Self { kubeconfig: node.kubeconfig(), search_path, home: Some(home), load: None, node: Some(node) }
        };
        cluster.expect_unused(screen)?;
        for image in [operator, application] {
            cluster.load(screen, &image)?;
        }
        Ok(cluster)
    }

    /// The node, where it is ours.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The end removes what belongs to the operator: not from a cluster where somebody uses it.
    fn expect_unused(&self, screen: &mut Screen) -> Result<(), Failed> {
        let found = self.shell("kubectl get namespaces cmk-system shop shop-reports --ignore-not-found -o name");
        screen.expect(format!("a cluster without the operator and the examples {}", found.text), {
            found.success && found.text.trim().is_empty()
        })
    }

    /// Gives the nodes an image.
    pub fn load(&self, screen: &mut Screen, image: &Path) -> Result<(), Failed> {
        screen.progress(format!("loading {} …", image.display()));
        let ran = match (&self.node, &self.load) {
            (Some(node), _) => return node.load(screen, image),
            (None, Some(load)) => self.shell(&format!("{load} {}", image.display())),
            (None, None) => {
                screen.progress("CMK_E2E_LOAD_IMAGE is not set: the cluster has to have the images");
                return Ok(());
            }
        };
        screen.say(ran.text.trim_end());
        screen.expect("the image is loaded", ran.success)
    }

    /// Runs a line as the administrator would in a shell.
    pub fn shell(&self, line: &str) -> Ran {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("set -o pipefail; exec 2>&1\n{line}")).current_dir(CHECKOUT).stdin(Stdio::null());
        command.env("KUBECONFIG", &self.kubeconfig).env("PATH", &self.search_path);
        if let Some(home) = &self.home {
            command.env("HOME", home.path());
            // The node is on this machine, whatever proxy the user has.
            for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
                command.env_remove(name);
            }
        }
        let output = command.output().expect("bash");
        Ran { text: String::from_utf8_lossy(&output.stdout).into_owned(), success: output.status.success() }
    }
}

/// Runs a script of the checkout that builds something, and answers the path in its last line.
fn built(screen: &mut Screen, what: &str, script: &str) -> Result<PathBuf, Failed> {
    screen.progress(format!("{what}: {script} …"));
    match script_output(script, &[]) {
        Some(text) if !text.trim().is_empty() => Ok(text.trim_end().lines().last().unwrap_or_default().into()),
        _ => {
            screen.expect(format!("{script} to succeed"), false)?;
            Err(Failed)
        }
    }
}

/// Runs a script of the checkout. What it says about its progress goes to our standard error. Answers its standard output.
pub fn script_output(script: &str, arguments: &[&Path]) -> Option<String> {
    let program = Path::new(CHECKOUT).join(script);
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
