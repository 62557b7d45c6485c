//! The description of the API against what the server really says.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::{Value, json};
use support::{Answer, FAR_FUTURE_SECONDS, TestServer, ask, claims, mutation, token};

struct Described {
    server: TestServer,
    document: Value,
    bearer: String,
}

impl Described {
    async fn start() -> Self {
        let server = TestServer::start().await;
        let document = ask(server.address, "GET", "/v1/openapi.json", &[], b"").await.json();
        let scopes = ["facility:main", "school:demo", "store:demo"];
        let mut claims = claims("ada", &scopes, FAR_FUTURE_SECONDS);
        claims["roles"] = json!(["admin", "teacher", "manager"]);
        let bearer = format!("Bearer {}", token(&claims));
        Self { server, document, bearer }
    }

    /// What the document says of a place in it, as a schema of its own.
    fn validator(&self, schema: &Value) -> jsonschema::Validator {
        let mut root = schema.clone();
        root["components"] = self.document["components"].clone();
        jsonschema::validator_for(&root).unwrap()
    }

    fn check(&self, what: &str, schema: &Value, value: &Value) {
        assert!(schema.is_object(), "{what} is not described");
        let wrong: Vec<String> = self
            .validator(schema)
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{what}: {wrong:?}\n{value}");
    }

    /// Asks, and checks what was sent and what came back against the description of the endpoint.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let operation = &self.document["paths"][path.split('?').next().unwrap()][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not described");
        if let Some(body) = body {
            self.check(path, &operation["requestBody"]["content"]["application/json"]["schema"], body);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let headers = [("authorization", self.bearer.as_str())];
        let answer = ask(self.server.address, method, path, &headers, text.as_bytes()).await;
        let schema = match answer.status {
            200 => &operation["responses"]["200"],
            _ => &self.document["components"]["responses"]["Error"],
        };
        self.check(path, &schema["content"]["application/json"]["schema"], &answer.json());
        answer
    }

    async fn ok(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let answer = self.ask(method, path, body.as_ref()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
        answer.json()
    }

    fn push(&self, client: &str, mutations: &[String]) -> Value {
        let mutations: Vec<Value> = mutations.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        json!({"protocol": 1, "user": "ada", "client_id": client, "first_push": true, "epoch": null, "device": "d",
            "schema_version": 1, "acked_through": 0, "pending_count": 1, "failed_count": 2, "mutations": mutations})
    }
}

#[tokio::test]
async fn what_the_server_says_is_as_described() {
    let api = Described::start().await;
    let movie = |seq: u64, set: Value| mutation(seq, "user:ada", "movies", "m", "create", &set, &json!({"base": 0}));
    let bad = mutation(2, "user:ada", "notes", "n", "create", &json!({}), &json!({"base": 0}));
    let gone = mutation(3, "user:ada", "movies", "m", "delete", &json!({}), &json!({"base": 1}));
    let void = json!({"seq": 4, "void": true}).to_string();
    let pushed =
        api.ok("POST", "/v1/sync/push", Some(api.push("c1", &[movie(1, json!({"a": 1})), bad, gone, void]))).await;
    assert_eq!(pushed["results"].as_array().unwrap().len(), 4);
    api.ok("POST", "/v1/sync/push", Some(api.push("c2", &[movie(1, json!({"b": [1, {"c": null}]}))]))).await;
    let pull = json!({"protocol": 1, "user": "ada", "client_id": "c1", "cursor": null, "collections": ["movies"], "limit": 10});
    let page = api.ok("POST", "/v1/sync/pull", Some(pull)).await;
    assert_eq!(page["has_more"], false);
    api.ok("GET", "/v1/sync/status", None).await;
    api.ok("POST", "/auth/login", Some(json!({"user": "ada", "password": "landfall"}))).await;
    for path in ["overview", "pending?limit=1", "devices?limit=1", "failures", "audit?limit=1", "conflicts?limit=1"] {
        api.ok("GET", &format!("/v1/admin/{path}"), None).await;
    }
}

#[tokio::test]
async fn what_the_endpoints_of_older_systems_say_is_as_described() {
    let api = Described::start().await;
    let shift = json!({"facilityId": "main", "clockIn": "2024-01-01T08:00:00Z", "deviceId": "d1", "syncVersion": 3,
        "clientTimestamp": "2024-01-01T08:00:00Z", "clockOut": "2024-01-01T17:00:00Z"});
    let mut other = shift.clone();
    other["clockOut"] = json!("2024-01-01T18:00:00Z");
    let answer = api.ok("POST", "/api/attendance/sync", Some(json!({"records": [shift, other, {}]}))).await;
    assert_eq!((&answer["synced"], &answer["conflicts"], &answer["errors"]), (&json!(1), &json!(1), &json!(1)));
    let score = |value: u64, at: &str| json!({"student_id": "s", "ecr_item_id": "i", "score": value, "updated_at": at});
    let scores = json!([score(5, "2025-01-02T00:00:00Z"), score(4, "2025-01-01T00:00:00Z"), {"score": 1}]);
    let answer = api.ok("POST", "/api/desktop/sync/ecr-scores", Some(scores)).await;
    let counts = ["synced", "conflicts", "errors"].map(|name| answer[name].as_array().unwrap().len());
    assert_eq!(counts, [1, 1, 1]);
    api.ok("POST", "/api/desktop/sync/running-grades", Some(json!({"records": []}))).await;
    api.ok("GET", "/api/desktop/sync/status", None).await;
    let push = |name: &str, device: &str| json!({"device_id": device, "timestamp": "2025-12-18T11:00:00Z", "changes": {"team": [{"id": "t", "name": name}, {}]}});
    api.ok("POST", "/api/v1/sync/push", Some(push("Ann", "mac"))).await;
    let answer = api.ok("POST", "/api/v1/sync/push", Some(push("Bea", "phone"))).await;
    let counts = ["conflicts", "errors"].map(|name| answer[name].as_array().unwrap().len());
    assert_eq!(counts, [1, 1]);
    let pull = json!({"device_id": "mac", "last_sync_timestamp": null, "tables": ["team", "forms"]});
    api.ok("POST", "/api/v1/sync/pull", Some(pull)).await;
    api.ok("GET", "/api/v1/sync/status", None).await;
}

#[tokio::test]
async fn refusals_are_as_described_and_the_description_would_notice() {
    let api = Described::start().await;
    let mut fork = api.push("c9", &[]);
    fork["first_push"] = json!(false);
    assert_eq!(api.ask("POST", "/v1/sync/push", Some(&fork)).await.code(), "client_fork");
    fork["epoch"] = json!("another");
    assert_eq!(api.ask("POST", "/v1/sync/push", Some(&fork)).await.code(), "reset_required");
    let response = &api.document["paths"]["/v1/sync/push"]["post"]["responses"]["200"];
    let schema = &response["content"]["application/json"]["schema"];
    let mut answer = api.ok("POST", "/v1/sync/push", Some(api.push("c1", &[]))).await;
    assert!(api.validator(schema).is_valid(&answer));
    answer["head"] = json!({"user:ada": "three"});
    assert!(!api.validator(schema).is_valid(&answer), "a position is a number");
    answer["head"] = json!({});
    answer["results"] = json!([{"seq": 1, "status": "lost"}]);
    assert!(!api.validator(schema).is_valid(&answer), "there is no such status");
}

#[tokio::test]
async fn every_address_of_the_document_exists_and_every_reference_in_it_leads_somewhere() {
    let api = Described::start().await;
    for (path, operations) in api.document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let answer = ask(api.server.address, &method.to_uppercase(), path, &[], b"").await;
            assert_ne!(answer.status, 404, "{method} {path}");
        }
    }
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&api.document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(api.document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
    }
}
