//! The description of the API, made from the types that its messages are read into and written from.
//!
//! OpenAPI 3.1, whose schemas are JSON Schema 2020-12. What a client sends is described as it is read (a field with a
//! default may be missing), what the server says as it is written; a type in both has two entries, `X` and `XSent`.

use crate::admin::{AdminDevice, AfterDevice, Conflicts, Failures, Overview, Page};
use crate::compat::{attendance, grades, insight};
use crate::decide::DecideRequest;
use crate::routes::Shared;
use crate::session::{Login, Session};
use crate::store::{AuditLine, UserPending};
use axum::routing::get;
use axum::{Json, Router};
use landfall_protocol::{
    ErrorCode, ErrorEnvelope, Outcome, PullRequest, PullResponse, PushRequest, PushResponse, StatusResponse,
};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

pub fn router() -> Router<Shared> {
    Router::new().route("/v1/openapi.json", get(async || Json(&*DOCUMENT)))
}

/// Collects endpoints and the schemas that they name.
struct Describer {
    sent: SchemaGenerator,
    said: SchemaGenerator,
    paths: Map<String, Value>,
}

/// An endpoint as it is being described.
struct Endpoint<'d> {
    describer: &'d mut Describer,
    path: &'static str,
    method: &'static str,
    operation: Map<String, Value>,
}

impl Describer {
    fn new() -> Self {
        let settings = |path: &'static str| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = path.into();
                settings.meta_schema = None;
            })
        };
        Self {
            sent: settings("/components/sent").for_deserialize().into_generator(),
            said: settings("/components/schemas").for_serialize().into_generator(),
            paths: Map::new(),
        }
    }

    fn endpoint(&mut self, method: &'static str, path: &'static str, summary: &str) -> Endpoint<'_> {
        let mut operation = Map::new();
        operation.insert("summary".to_owned(), json!(summary));
        operation.insert("security".to_owned(), json!([{ "token": [] }]));
        Endpoint { describer: self, path, method, operation }
    }

    fn finish(mut self) -> Value {
        let error = content(self.said.subschema_for::<ErrorEnvelope>());
        let mut schemas = self.said.take_definitions(true);
        for (name, schema) in self.sent.take_definitions(true) {
            schemas.insert(format!("{name}Sent"), schema);
        }
        let codes: Vec<String> = ErrorCode::ALL.iter().map(|(code, status)| format!("{status} {code}")).collect();
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "landfall-server", "version": env!("CARGO_PKG_VERSION"),
                "description": "Words and promises are those of docs/protocol.md.",
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "responses": { "Error": {
                    "description": format!("The request as a whole was refused; nothing was applied. {}.", codes.join(", ")),
                    "headers": { "Retry-After": { "description": "Seconds; of 429 and 503", "schema": { "type": "integer" } } },
                    "content": error,
                } },
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
            },
        });
        rename_sent(document)
    }
}

impl Endpoint<'_> {
    fn takes<T: JsonSchema>(mut self) -> Self {
        let schema = self.describer.sent.subschema_for::<T>();
        self.operation.insert("requestBody".to_owned(), json!({ "required": true, "content": content(schema) }));
        self
    }

    /// Query parameters with their types.
    fn asks(mut self, parameters: &[(&str, &str)]) -> Self {
        let parameters = parameters
            .iter()
            .map(|(name, kind)| json!({ "name": name, "in": "query", "required": false, "schema": { "type": kind } }));
        self.operation.insert("parameters".to_owned(), parameters.collect());
        self
    }

    fn open(mut self) -> Self {
        self.operation.insert("security".to_owned(), json!([]));
        self
    }

    fn says<T: JsonSchema>(mut self, description: &str) {
        let schema = self.describer.said.subschema_for::<T>();
        let answer = json!({ "description": description, "content": content(schema) });
        let responses = json!({ "200": answer, "default": { "$ref": "#/components/responses/Error" } });
        self.operation.insert("responses".to_owned(), responses);
        let path = self.describer.paths.entry(self.path).or_insert_with(|| json!({}));
        path[self.method] = Value::Object(self.operation);
    }
}

fn content(schema: Schema) -> Value {
    json!({ "application/json": { "schema": schema } })
}

/// Schemas of what is sent stand beside the others, under names of their own.
fn rename_sent(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, rename_sent(value))).collect(),
        Value::Array(values) => values.into_iter().map(rename_sent).collect(),
        Value::String(text) => match text.strip_prefix("#/components/sent/") {
            Some(name) => Value::String(format!("#/components/schemas/{name}Sent")),
            None => Value::String(text),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn document() -> Value {
    let mut all = Describer::new();
    let push = all.endpoint("post", "/v1/sync/push", "Sends mutations; one result each, in their order");
    push.takes::<PushRequest>().says::<PushResponse>("Every mutation has a result");
    let pull = all.endpoint("post", "/v1/sync/pull", "One page of changes");
    pull.takes::<PullRequest>().says::<PullResponse>("Takes the replica from one server state to a later one");
    let status = all.endpoint("get", "/v1/sync/status", "Where the scopes stand, and what devices last said");
    let status = status.asks(&[("client_id", "string"), ("pending_count", "integer"), ("failed_count", "integer")]);
    status.says::<StatusResponse>("The server is well");
    let login = all.endpoint("post", "/auth/login", "Signs a demo person in (--dev)").open();
    login.takes::<Login>().says::<Session>("An access token, and the refresh cookie");
    admin(&mut all);
    compat(&mut all);
    all.finish()
}

fn admin(all: &mut Describer) {
    let overview = all.endpoint("get", "/v1/admin/overview", "Sums over everybody");
    overview.says::<Overview>("Sums");
    let pending = all.endpoint("get", "/v1/admin/pending", "Users with something that waits or failed");
    let pending = pending.asks(&[("after", "string"), ("limit", "integer")]);
    pending.says::<Page<UserPending, String>>("A page");
    let devices = all.endpoint("get", "/v1/admin/devices", "Devices and what they last said");
    let devices =
        devices.asks(&[("user", "string"), ("after_user", "string"), ("after_client", "string"), ("limit", "integer")]);
    devices.says::<Page<AdminDevice, AfterDevice>>("A page");
    let failures = all.endpoint("get", "/v1/admin/failures", "Refused mutations by hour, collection, code and field");
    let failures = failures.asks(&[("since", "integer"), ("until", "integer"), ("limit", "integer")]);
    failures.says::<Failures>("Counts");
    let audit = all.endpoint("get", "/v1/admin/audit", "What became of each mutation, newest first");
    let audit = audit.asks(&[
        ("user", "string"),
        ("collection", "string"),
        ("status", "string"),
        ("code", "string"),
        ("before", "integer"),
        ("limit", "integer"),
    ]);
    audit.says::<Page<AuditLine, u64>>("A page");
    let conflicts = all.endpoint("get", "/v1/admin/conflicts", "Conflicts that wait, and mutations that lost");
    let conflicts = conflicts.asks(&[("user", "string"), ("before", "integer"), ("limit", "integer")]);
    conflicts.says::<Conflicts>("A page");
    let decide = all.endpoint("post", "/v1/admin/conflicts/decide", "Decides a conflict that waits for a role");
    decide.takes::<DecideRequest>().says::<Outcome>("What became of the decision; a refusal is an outcome");
}

fn compat(all: &mut Describer) {
    let sync = all.endpoint("post", "/api/attendance/sync", "Shifts of a person");
    sync.takes::<attendance::SyncRequest>().says::<attendance::SyncResponse>("What became of each record");
    for (path, summary) in [
        ("/api/desktop/sync/ecr-scores", "Scores of students"),
        ("/api/desktop/sync/running-grades", "Running grades of students"),
    ] {
        let sync = all.endpoint("post", path, summary);
        sync.takes::<grades::SyncRequest>().says::<grades::SyncResponse>("What became of each record");
    }
    let status = all.endpoint("get", "/api/desktop/sync/status", "The last sync, and conflicts");
    status.says::<grades::StatusResponse>("The status");
    let pull = all.endpoint("post", "/api/v1/sync/pull", "Changes since a timestamp that was issued to the device");
    pull.takes::<insight::PullAsked>().says::<insight::PullAnswer>("Changes by table");
    let push = all.endpoint("post", "/api/v1/sync/push", "A device's changes by table");
    push.takes::<insight::PushAsked>().says::<insight::PushAnswer>("What became of each record");
    let status = all.endpoint("get", "/api/v1/sync/status", "Devices of the store, and tables of the role");
    status.says::<insight::StatusAnswer>("The status");
}
