//! The KMS endpoint through the clients that users have, on a real API server: every operation, and every cell of both state
//! tables. The programs are in `tests/clients/`; what they check is there.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that fails says why")]

#[path = "../support/mod.rs"]
mod support;

mod application;
mod clients;
mod kms_http;
mod leaving;
mod outage;
mod refusals;
mod replicas;
mod watches;

use application::Application;

/// Runs one of the programs as an application of its own namespace.
async fn drive(namespace: &str, program: &str) {
    let application = Application::start(namespace).await;
    clients::run(program, &application.configuration()).await;
    application.operator.stop().await.unwrap();
}

/// Every operation, with half of the usual stack: a request that comes near the end of it would end the process of a test, now
/// and then, as the way through it goes. Here it always does.
fn on_half_a_stack(tour: impl Future<Output = ()>) {
    const HALF: usize = 1 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(HALF).build();
    runtime.unwrap().block_on(tour);
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_state_table_through_boto3() {
    drive("aws-states", "aws_states.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alibaba_state_table_through_both_sdks() {
    drive("alibaba-states", "alibaba_states.py").await;
}

#[test]
fn aws_operations_through_boto3() {
    on_half_a_stack(drive("aws-tour", "aws_tour.py"));
}

#[test]
fn alibaba_operations_through_both_sdks() {
    on_half_a_stack(drive("alibaba-tour", "alibaba_tour.py"));
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli() {
    drive("aws-cli", "aws_cli_roundtrip.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sops() {
    drive("sops", "sops_roundtrip.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_encryption_sdk() {
    drive("encryption-sdk", "encryption_sdk_roundtrip.py").await;
}
