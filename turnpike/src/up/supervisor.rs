//! The roles of one process: started, stopped and started again one by one, so that anyone can see what a failure does.

use std::{
    any::Any,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use lifecycle::{OpsBoard, Readiness, Role, Shutdown};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::Mutex as AsyncMutex, task::JoinHandle};

/// How long a role that is stopped alone may take to finish what is open.
const PATIENCE: Duration = Duration::from_secs(2);

/// Builds a role on an address; port 0 the first time, then the one it got.
type Build = Arc<dyn Fn(SocketAddr) -> BoxFuture<'static, anyhow::Result<Box<dyn Role>>> + Send + Sync>;

/// The roles of the process, in the order they were added. Clones speak of the same roles.
#[derive(Clone)]
pub struct Supervisor {
    board: OpsBoard,
    instances: Arc<Mutex<Vec<Arc<Instance>>>>,
}

struct Instance {
    role: &'static str,
    /// 1, 2, …: which of several of the same role.
    number: usize,
    build: Build,
    /// Held while it starts or stops: one change at a time.
    running: AsyncMutex<Option<Running>>,
    seen: Mutex<Seen>,
}

struct Running {
    shutdown: Shutdown,
    done: JoinHandle<()>,
}

/// What is shown of an instance.
#[derive(Clone, Serialize)]
struct Seen {
    role: &'static str,
    number: usize,
    /// `running`, `stopped` or `failed`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<SocketAddr>,
}

impl Supervisor {
    pub fn new(board: OpsBoard) -> Self {
        let supervisor = Self { board, instances: Arc::default() };
        supervisor.board.mount("up", supervisor.router());
        supervisor.board.list(
            "up",
            vec![
                ("GET /roles".to_owned(), "every role with its state and address"),
                ("POST /roles/{role}/{stop|start}".to_owned(), "stops or starts all of a role"),
                ("POST /roles/{role}/{number}/{stop|start}".to_owned(), "stops or starts one"),
            ],
        );
        supervisor
    }

    /// Starts a role and keeps it under its name and number; answers its address.
    ///
    /// # Errors
    /// If it can't be built.
    pub async fn add<F>(
        &self,
        role: &'static str,
        number: usize,
        listen: SocketAddr,
        build: F,
    ) -> anyhow::Result<Option<SocketAddr>>
    where
        F: Fn(SocketAddr) -> BoxFuture<'static, anyhow::Result<Box<dyn Role>>> + Send + Sync + 'static,
    {
        let instance = Arc::new(Instance {
            role,
            number,
            build: Arc::new(build),
            running: AsyncMutex::default(),
            seen: Mutex::new(Seen { role, number, state: "stopped", reason: None, address: Some(listen) }),
        });
        self.start(&instance).await.with_context(|| format!("{role} can't start"))?;
        let address = instance.seen().address;
        lock(&self.instances).push(instance);
        Ok(address)
    }

    async fn start(&self, instance: &Arc<Instance>) -> anyhow::Result<()> {
        let mut running = instance.running.lock().await;
        if running.as_ref().is_some_and(|running| !running.done.is_finished()) {
            return Ok(());
        }
        let listen = instance.seen().address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let role = match (instance.build)(listen).await {
            Ok(role) => role,
            Err(error) => {
                instance.see("failed", Some(format!("{error:#}")));
                return Err(error);
            }
        };
        let shutdown = Shutdown::new();
        self.board.watch(instance.name(), role.readiness());
        self.board.mount(instance.role, role.ops());
        self.board.list(instance.role, role.ops_index());
        // A role without a listener keeps none: its address stays unknown.
        lock(&instance.seen).address = role.address();
        instance.see("running", None);
        let (seen, ending) = (instance.clone(), shutdown.clone());
        let done = tokio::spawn(async move {
            let outcome = AssertUnwindSafe(role.run(ending)).catch_unwind().await;
            match outcome {
                Ok(Ok(())) => seen.see("stopped", None),
                Ok(Err(error)) => seen.fail(format!("{error:#}")),
                Err(panic) => seen.fail(format!("panicked: {}", panic_text(panic.as_ref()))),
            }
        });
        *running = Some(Running { shutdown, done });
        Ok(())
    }

    async fn stop(&self, instance: &Instance, patience: Duration) {
        let Some(running) = instance.running.lock().await.take() else { return };
        let stopped = Readiness::default();
        stopped.not_ready("role", "stopped");
        self.board.watch(instance.name(), stopped);
        running.shutdown.begin(patience);
        // A role that ignores even the drop must not hold up the others.
        let bound = patience + Duration::from_secs(1);
        let abort = running.done.abort_handle();
        if tokio::time::timeout(bound, running.done).await.is_err() {
            tracing::warn!(role = instance.role, number = instance.number, "did not stop in time: aborted");
            abort.abort();
            instance.see("stopped", Some("aborted: did not stop in time".to_owned()));
        }
    }

    /// Stops everything, the last added first: what calls others goes before what it calls.
    pub async fn stop_all(&self, patience: Duration) {
        let instances = lock(&self.instances).clone();
        let mut stages = instances.iter().rev();
        if let Some(entrance) = stages.next() {
            self.stop(entrance, patience / 2).await;
        }
        let rest = stages.map(|instance| self.stop(instance, patience / 2));
        futures_util::future::join_all(rest).await;
    }

    /// The instances of a role, or the one of this number.
    fn find(&self, role: &str, number: Option<usize>) -> Vec<Arc<Instance>> {
        let of_role =
            |instance: &&Arc<Instance>| instance.role == role && number.is_none_or(|number| number == instance.number);
        lock(&self.instances).iter().filter(of_role).cloned().collect()
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/roles", get(list))
            .route("/roles/{role}/{change}", post(change_role))
            .route("/roles/{role}/{number}/{change}", post(change_instance))
            .with_state(self.clone())
    }

    async fn change(&self, role: &str, number: Option<usize>, change: &str) -> Response {
        let instances = self.find(role, number);
        if instances.is_empty() || !matches!(change, "start" | "stop") {
            return problem(StatusCode::NOT_FOUND, "no such role, number or change; see GET /roles");
        }
        for instance in &instances {
            match change {
                "start" => {
                    if let Err(error) = self.start(instance).await {
                        return problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("{role} can't start: {error:#}"));
                    }
                }
                _ => self.stop(instance, PATIENCE).await,
            }
        }
        let seen: Vec<Seen> = instances.iter().map(|instance| instance.seen()).collect();
        Json(json!({ "roles": seen })).into_response()
    }
}

impl Instance {
    fn name(&self) -> String {
        format!("{}/{}", self.role, self.number)
    }

    fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    fn see(&self, state: &'static str, reason: Option<String>) {
        let mut seen = lock(&self.seen);
        seen.state = state;
        seen.reason = reason;
    }

    fn fail(&self, reason: String) {
        tracing::error!(role = self.role, number = self.number, reason, "the role failed");
        self.see("failed", Some(reason));
    }
}

async fn list(State(supervisor): State<Supervisor>) -> impl IntoResponse {
    let seen: Vec<Seen> = lock(&supervisor.instances).iter().map(|instance| instance.seen()).collect();
    Json(json!({ "roles": seen }))
}

async fn change_role(
    State(supervisor): State<Supervisor>,
    Path((role, change)): Path<(String, String)>,
) -> impl IntoResponse {
    supervisor.change(&role, None, &change).await
}

async fn change_instance(
    State(supervisor): State<Supervisor>,
    Path((role, number, change)): Path<(String, usize, String)>,
) -> impl IntoResponse {
    supervisor.change(&role, Some(number), &change).await
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// The state behind is a plain value: a panic elsewhere can't have left it half-written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Idle(Readiness);

    #[async_trait::async_trait]
    impl Role for Idle {
        fn name(&self) -> &'static str {
            "idle"
        }
        fn address(&self) -> Option<SocketAddr> {
            None
        }
        fn readiness(&self) -> Readiness {
            self.0.clone()
        }
        async fn run(self: Box<Self>, shutdown: Shutdown) -> anyhow::Result<()> {
            self.0.ready("role");
            shutdown.draining().cancelled().await;
            Ok(())
        }
    }

    async fn with_one_role() -> Supervisor {
        let supervisor = Supervisor::new(OpsBoard::default());
        let build = |_| async { Ok(Box::new(Idle(Readiness::default())) as Box<dyn Role>) }.boxed();
        supervisor.add("idle", 1, SocketAddr::from(([127, 0, 0, 1], 0)), build).await.unwrap();
        supervisor
    }

    #[tokio::test]
    async fn a_role_is_stopped_and_started_again() {
        let supervisor = with_one_role().await;
        assert_eq!(supervisor.change("idle", None, "stop").await.status(), 200);
        assert_eq!(supervisor.find("idle", Some(1))[0].seen().state, "stopped");
        assert_eq!(supervisor.change("idle", Some(1), "start").await.status(), 200);
        assert_eq!(supervisor.find("idle", None)[0].seen().state, "running");
    }

    #[tokio::test]
    async fn what_does_not_exist_is_a_404() {
        let supervisor = with_one_role().await;
        for (role, number, change) in [("ghost", None, "stop"), ("idle", Some(2), "stop"), ("idle", None, "explode")] {
            assert_eq!(supervisor.change(role, number, change).await.status(), 404, "{role} {change}");
        }
    }
}
