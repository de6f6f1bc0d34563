//! Everything goes, in the order of docs/install.md.

use crate::user::{Seen, User};

pub fn run(user: &mut User) -> Seen {
    user.skip("the full uninstall", "docs/install.md is not there yet");
    Ok(())
}
