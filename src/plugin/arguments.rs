//! The command line of `kubectl cmk`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::{SignedDuration, Timestamp};

use super::output::Format;
use crate::api::{field_ownership::GITOPS_MANAGERS, policies::PolicyOptions};

/// Work with customer master keys: look at them, change their state, import material, find out what is wrong, and see
/// what applying a manifest would do.
#[derive(Debug, Parser)]
#[command(name = "kubectl-cmk", bin_name = "kubectl cmk", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster, and as whom.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct Connection {
    /// The namespace. Absent: the one of the kubeconfig's context
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig. Absent: the current one
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// The kubeconfig. Absent: KUBECONFIG, else ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Act as this user, if you may
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Act as a member of this group; repeatable
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub impersonate_groups: Vec<String>,
}

/// What the plugin does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let a key be used: sets spec.enabled to true
    #[command(after_help = "Examples:\n  kubectl cmk enable orders\n  kubectl cmk enable orders -n shop --no-wait")]
    Enable(ChangeArguments),
    /// Keep a key from being used: sets spec.enabled to false
    #[command(after_help = "Nothing encrypts or decrypts with a disabled key. Secrets that were delivered stay.\n\n\
        Examples:\n  kubectl cmk disable orders")]
    Disable(ChangeArguments),
    /// Let a key be deleted, after a window in which it can be got back: sets spec.scheduleDeletion to true
    #[command(
        after_help = "The key can't be used from now on; when the window is over, nothing decrypts any more.\n\n\
        Examples:\n  kubectl cmk schedule-deletion orders --days 30\n  kubectl cmk cancel-deletion orders"
    )]
    ScheduleDeletion(ScheduleDeletionArguments),
    /// Keep a key whose deletion was scheduled: sets spec.scheduleDeletion to false
    #[command(after_help = "Examples:\n  kubectl cmk cancel-deletion orders")]
    CancelDeletion(ChangeArguments),
    /// Make a new version of a key's material. Every older one still decrypts
    #[command(after_help = "Sets the annotation cmk-operator.dev/rotate-requested-at, and waits until status answers \
        it.\n\nExamples:\n  kubectl cmk rotate orders")]
    Rotate(ChangeArguments),
    /// Import key material from a file into a key with origin EXTERNAL
    #[command(after_help = "The material is exactly 32 bytes. It goes into a Secret, which spec.importedKeyMaterial \
        then names; the key gets it from there, and never gets other material.\n\nExamples:\n  \
        head -c 32 /dev/random > material.bin\n  kubectl cmk import orders --from-file material.bin\n  \
        kubectl cmk import orders --from-file material.bin --expire-time 2030-01-01T00:00:00Z\n  \
        age -d material.age | kubectl cmk import orders --from-file -")]
    Import(ImportArguments),
    /// Show everything about a key at a glance, and what to do when something is wrong
    #[command(after_help = "Examples:\n  kubectl cmk describe orders\n  kubectl cmk describe orders -o yaml")]
    Describe(DescribeArguments),
    /// Show which DataKeys and Secrets hang on a key, in every namespace, and on which of its versions
    #[command(after_help = "Examples:\n  kubectl cmk tree\n  kubectl cmk tree orders -n shop\n  \
        kubectl cmk tree -A -o json")]
    Tree(TreeArguments),
    /// Look over the cluster, and say what is wrong and what to do
    #[command(after_help = "The exit status is 1 if something is wrong.\n\nExamples:\n  kubectl cmk doctor\n  \
        kubectl cmk doctor -n shop --expiring-within 30d")]
    Doctor(DoctorArguments),
    /// Show what the reconciler would do to each key if manifests were applied. Nothing is written
    #[command(after_help = "Each manifest is applied as a dry run, so that what the API server refuses is found, and \
        the reconciler's own plan is asked what it would do then. Objects of other kinds are passed over.\n\n\
        Exit status: 0 nothing to do; 2 changes; 3 changes by which something is lost or can't be used (disabling, \
        scheduling a deletion, deleting material, abandoning a key); 1 an error.\n\n\
        Examples:\n  kubectl cmk plan -f key.yaml\n  kubectl cmk plan -R -f manifests/\n  \
        kustomize build . | kubectl cmk plan -f -\n  kubectl cmk plan -f key.yaml -o json | jq '.plan[].effects'")]
    Plan(PlanArguments),
    /// Print the version
    Version(VersionArguments),
    /// Print the completion script for a shell
    #[command(after_help = "Examples:\n  source <(kubectl cmk completion bash)\n  \
        kubectl cmk completion zsh > \"${fpath[1]}/_kubectl-cmk\"\n  \
        kubectl cmk completion fish > ~/.config/fish/completions/kubectl-cmk.fish")]
    Completion(CompletionArguments),
}

/// A command that changes one key.
#[derive(Args, Clone, Debug)]
pub struct ChangeArguments {
    /// The name of the CustomerMasterKey
    pub name: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub how: ChangeOptions,
}

/// How an object is changed.
#[derive(Args, Clone, Debug)]
pub struct ChangeOptions {
    /// Change the field even if a manifest kept elsewhere declares it: whoever applies that sets it back
    #[arg(long)]
    pub force: bool,
    /// Field managers whose fields belong to a manifest kept elsewhere, beside all that use server-side apply
    #[arg(long, value_delimiter = ',', default_values_t = GITOPS_MANAGERS.map(String::from), hide_default_value = true,
        value_name = "NAMES")]
    pub gitops_managers: Vec<String>,
    /// Do not wait until the operator has answered
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for the operator's answer
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION", conflicts_with = "no_wait")]
    pub timeout: Duration,
}

/// `schedule-deletion`
#[derive(Args, Clone, Debug)]
pub struct ScheduleDeletionArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub change: ChangeArguments,
    /// Days until the key is deleted: sets spec.pendingDeletionDays. Absent: what the object or its key store says
    #[arg(long, value_parser = clap::value_parser!(i32).range(7..=366))]
    pub days: Option<i32>,
}

/// `import`
#[derive(Args, Clone, Debug)]
pub struct ImportArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub change: ChangeArguments,
    /// The file with the material, exactly 32 bytes; `-`: standard input
    #[arg(long, value_name = "FILE")]
    pub from_file: PathBuf,
    /// When the material expires and is deleted (RFC 3339). Absent: never
    #[arg(long, value_name = "TIME")]
    pub expire_time: Option<Timestamp>,
    /// The Secret to make. Absent: NAME-material
    #[arg(long, value_name = "SECRET")]
    pub secret_name: Option<String>,
}

/// `describe`
#[derive(Args, Clone, Debug)]
pub struct DescribeArguments {
    /// The name of the CustomerMasterKey
    pub name: String,
    /// Print data instead
    #[arg(short, long)]
    pub output: Option<Format>,
}

/// `tree`
#[derive(Args, Clone, Debug)]
pub struct TreeArguments {
    /// The name of the CustomerMasterKey. Absent: all of the namespace
    #[arg(conflicts_with = "all_namespaces")]
    pub name: Option<String>,
    /// The keys of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Print data instead
    #[arg(short, long)]
    pub output: Option<Format>,
}

/// `doctor`
#[derive(Args, Clone, Debug)]
pub struct DoctorArguments {
    /// Look at all namespaces: the default, unless one is given or you may see one only
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Imported material that expires within this time is reported
    #[arg(long, default_value = "14d", value_parser = span, value_name = "DURATION")]
    pub expiring_within: SignedDuration,
    /// How long to wait for the operator to answer objects that it has not answered yet
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: OperatorNamespace,
    /// Print data instead
    #[arg(short, long)]
    pub output: Option<Format>,
}

/// Where the operator is.
#[derive(Args, Clone, Debug)]
pub struct OperatorNamespace {
    /// The operator's own namespace
    #[arg(long, default_value = PolicyOptions::DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    pub operator_namespace: String,
}

/// `plan`
#[derive(Args, Clone, Debug)]
pub struct PlanArguments {
    /// A file, or a folder with .yaml, .yml and .json files; `-`: standard input. Repeatable
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub filenames: Vec<PathBuf>,
    /// Read the folders below as well
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// The field manager that the manifests are applied with. Absent: the one that applied the object before, else
    /// kubectl's
    #[arg(long, value_name = "NAME")]
    pub field_manager: Option<String>,
    /// As `kubectl apply --server-side --force-conflicts`: take fields over from other managers
    #[arg(long)]
    pub force_conflicts: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: OperatorNamespace,
    /// Print data instead
    #[arg(short, long)]
    pub output: Option<Format>,
}

/// `version`
#[derive(Args, Clone, Debug)]
pub struct VersionArguments {
    /// Print data instead
    #[arg(short, long)]
    pub output: Option<Format>,
}

/// `completion`
#[derive(Args, Clone, Debug)]
pub struct CompletionArguments {
    /// The shell
    pub shell: Shell,
}

fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|e| format!("not a duration such as 30s or 2m: {e}"))?;
    Duration::try_from(signed).map_err(|_| "a duration can't be negative".into())
}

/// A time span that may be given in days.
fn span(text: &str) -> Result<SignedDuration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    if let Some(days) = days.filter(|days| (0..=36_500).contains(days)) {
        return Ok(SignedDuration::from_hours(24 * days));
    }
    text.parse().map_err(|e| format!("not a duration such as 14d or 12h: {e}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
