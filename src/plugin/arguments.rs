//! The command line of `kubectl cmk`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;

use crate::api::{field_ownership::GITOPS_MANAGERS, policies::PolicyOptions};

/// Work with customer master keys: look at them, change their state, import material, find out what is wrong, and see
/// what applying a manifest would do.
#[derive(Debug, Parser)]
#[command(name = "kubectl cmk", bin_name = "kubectl cmk", version, about, disable_help_subcommand = true)]
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
