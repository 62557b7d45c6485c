//! The access token: one row for all contexts, refreshed once when a 401 or its end asks for it.

use super::{TOKEN, error_of};
use crate::Replica;
use crate::error::SyncError;
use crate::host::{Host, HttpRequest, NetworkError, Notice, Token};
use landfall_core::schedule::{Answer, Trigger};
use landfall_protocol::codec::{from_json, to_json};
use landfall_storage::{Key, RowKind, RowStore, StoreName, decode, encode};

impl<H: Host> Replica<H> {
    pub(super) fn token_missing(&self) -> bool {
        if self.settings.cookie_auth {
            return false;
        }
        let now = self.host.now().get();
        match &*self.token.borrow() {
            Some(token) => token.expires_at.is_some_and(|at| at.get() <= now),
            None => true,
        }
    }

    /// The token row, which a page or another context wrote.
    pub(super) async fn load_token(&self) {
        if self.token_known.get() {
            return;
        }
        if let Ok(row) = self.host.rows().get(StoreName::Meta, &Key::text(TOKEN)).await {
            self.adopt_token(row.as_deref());
        }
    }

    /// Takes the token row as it was read.
    pub(crate) fn adopt_token(&self, row: Option<&str>) {
        if let Some(stored) = row.and_then(|text| decode::<Token>(RowKind::Token, text).ok()) {
            *self.token.borrow_mut() = Some(stored);
        }
        self.token_known.set(true);
    }

    /// A token came from the app: stored for all contexts. Unless it is `None`, sync goes on.
    pub async fn set_token(&self, token: Option<Token>) -> Result<(), SyncError> {
        // A new token that has expired by this clock says that the clock is wrong (I4): only a 401 can tell then.
        let now = self.host.now();
        let token = token.map(|token| Token { expires_at: token.expires_at.filter(|at| *at > now), ..token });
        let mut txn = landfall_storage::Txn::new("token", landfall_storage::Durability::Relaxed);
        match &token {
            Some(token) => txn.put(StoreName::Meta, Key::text(TOKEN), encode(RowKind::Token, token)),
            None => txn.delete(StoreName::Meta, Key::text(TOKEN)),
        }
        let login = token.is_some();
        *self.token.borrow_mut() = token;
        self.token_known.set(true);
        if login {
            self.trigger(Trigger::Login);
        }
        self.commit_small(txn).await?;
        self.host.notice(&Notice::Token);
        Ok(())
    }

    pub(super) async fn refresh_token(&self) -> Answer {
        // What was refused, which need not be what is here by now: another context's refresh may have come in since.
        let before = self.sent_token.borrow().clone();
        // Another context may have done it; and at any moment a person may sign in. Either is as good as a refresh.
        let came = |replica: &Self| *replica.token.borrow() != before && !replica.token_missing();
        self.token_known.set(false);
        self.load_token().await;
        if came(self) {
            return Answer::Done { more: false };
        }
        let asked = self.host.ask_token().await.filter(|token| Some(token) != before.as_ref());
        if let Some(token) = asked {
            return self.take_token(token).await;
        }
        let answer = match self.settings.refresh_url.clone() {
            Some(url) => self.refresh_by_url(url).await,
            None if self.settings.cookie_auth => Answer::Done { more: false },
            None => Answer::Unauthorized,
        };
        if came(self) { Answer::Done { more: false } } else { answer }
    }

    pub(super) async fn refresh_by_url(&self, path: String) -> Answer {
        let body = ["{\"user\":", &to_json(&self.config.user), "}"].concat();
        let request = HttpRequest { method: "POST", path, token: None, body: Some(body) };
        let response = match self.host.fetch(request).await {
            Ok(response) => response,
            Err(NetworkError) => return Answer::Lost,
        };
        if response.status == 200 {
            return match from_json::<Token>(&response.body) {
                Some(token) => self.take_token(token).await,
                None => self.malformed("refresh"),
            };
        }
        let error = error_of(&response);
        self.note_error(&error.code, &error.message);
        match response.status {
            429 | 503 => Answer::Busy { retry_after_ms: response.retry_after_ms },
            500.. => Answer::Faulty,
            _ => Answer::Unauthorized,
        }
    }

    pub(super) async fn take_token(&self, token: Token) -> Answer {
        match self.set_token(Some(token)).await {
            Ok(()) => Answer::Done { more: false },
            Err(error) => self.storage_failed(error),
        }
    }
}
