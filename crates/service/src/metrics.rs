//! The names of this crate's metrics, and what is recorded under them.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};
use tonic::Code;

use crate::descriptor::Rpc;

struct Instruments {
    requests: Counter<u64>,
    seconds: Histogram<f64>,
    task_runs: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = telemetry::meter("service");
    Instruments {
        requests: meter.u64_counter("turnpike_grpc_requests").with_description("RPCs answered, by code.").build(),
        seconds: meter
            .f64_histogram("turnpike_grpc_request_seconds")
            .with_description("Seconds until an RPC's answer began.")
            .with_boundaries(telemetry::LATENCY_BUCKETS.to_vec())
            .build(),
        task_runs: meter
            .u64_counter("turnpike_task_runs")
            .with_description("Runs of periodic tasks, by outcome (ok, error, panic).")
            .build(),
    }
});

/// Counts an RPC once, whatever becomes of it: dropped without an answer, the client has gone.
pub(crate) struct Call {
    rpc: Rpc,
    begun: Instant,
    answered: Option<Code>,
}

impl Call {
    pub fn begin(rpc: Rpc) -> Self {
        Self { rpc, begun: Instant::now(), answered: None }
    }

    pub fn answered(mut self, code: Code) {
        self.answered = Some(code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.answered.unwrap_or(Code::Cancelled);
        let service = KeyValue::new("service", self.rpc.service);
        let method = KeyValue::new("method", self.rpc.method);
        record_seconds(self.begun.elapsed(), &[service.clone(), method.clone()]);
        INSTRUMENTS.requests.add(1, &[service, method, KeyValue::new("code", telemetry::code_name(code.into()))]);
    }
}

pub(crate) fn task_ran(role: &'static str, task: &'static str, outcome: &'static str) {
    let labels = [KeyValue::new("role", role), KeyValue::new("task", task), KeyValue::new("outcome", outcome)];
    INSTRUMENTS.task_runs.add(1, &labels);
}

fn record_seconds(elapsed: Duration, labels: &[KeyValue]) {
    INSTRUMENTS.seconds.record(elapsed.as_secs_f64(), labels);
}
