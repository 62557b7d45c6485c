//! The link between a profile and the server: slow, cut, one-sided, forgetful, repeating itself.

use crate::exec::{Owner, Sleep};
use crate::world::World;
use futures_channel::oneshot;
use landfall_protocol::limits;
use landfall_replica::{HttpRequest, HttpResponse, NetworkError};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

/// How often a link fails, out of 1,000 requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkFaults {
    pub request_lost: u32,
    pub answer_lost: u32,
    pub answer_cut: u32,
    pub duplicated: u32,
    pub slow: u32,
    pub error_500: u32,
    /// Kept by somebody on the way, who sends it again hours later.
    pub replayed: u32,
    /// A byte of the answer changes on its way.
    pub corrupt: u32,
    /// Longest delay of a slow request, ms.
    pub slow_ms: u32,
}

/// Which requests a partition takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cut {
    #[default]
    None,
    All,
    Push,
    Pull,
    /// Pokes only.
    Live,
}

impl Cut {
    pub fn is_all(self) -> bool {
        self == Self::All
    }
    pub fn takes_pokes(self) -> bool {
        matches!(self, Self::All | Self::Live)
    }
    fn kind(self) -> &'static str {
        match self {
            Self::None | Self::Live => "cut_live",
            Self::All => "cut_off",
            Self::Push => "cut_push",
            Self::Pull => "cut_pull",
        }
    }
    fn takes(self, path: &str) -> bool {
        match self {
            Self::None | Self::Live => false,
            Self::All => true,
            Self::Push => path == "/push",
            Self::Pull => path == "/pull",
        }
    }
}

/// One request: answered, or a network error; never longer than a browser waits.
pub async fn fetch(
    world: &Rc<World>,
    profile: usize,
    owner: Owner,
    request: HttpRequest,
) -> Result<HttpResponse, NetworkError> {
    let (answer, mut waiting) = oneshot::channel();
    let carrier = Rc::clone(world);
    let is_push = request.path == "/push";
    if is_push {
        world.push_begins(profile);
    }
    let _under_way = is_push.then(|| UnderWay { world: Rc::clone(world), profile });
    // Once sent, a request is out of its sender's hands: it arrives even if its context dies.
    world.exec.spawn(0, profile, async move { carry(&carrier, profile, request, answer).await });
    if world.dies(profile, owner, "died_in_flight") {
        std::future::pending::<()>().await;
    }
    let mut limit: Sleep = world.exec.sleep(limits::REQUEST_MS_MAX);
    std::future::poll_fn(|context| {
        if let Poll::Ready(answer) = Pin::new(&mut waiting).poll(context) {
            return Poll::Ready(answer.map_err(|_| NetworkError));
        }
        Pin::new(&mut limit).poll(context).map(|()| Err(NetworkError))
    })
    .await
}

/// A push that its sender waits for.
struct UnderWay {
    world: Rc<World>,
    profile: usize,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let count = &self.world.profile(self.profile).pushes;
        count.set(count.get() - 1);
    }
}

async fn carry(world: &Rc<World>, profile: usize, request: HttpRequest, answer: oneshot::Sender<HttpResponse>) {
    let (faults, rng) = {
        let link = world.profile(profile);
        (if world.is_calm.get() { LinkFaults::default() } else { link.link }, link.rng.clone())
    };
    let number = world.sent_number(profile);
    let slow = rng.chance(faults.slow.into(), 1_000);
    if slow {
        world.met("slow", profile);
    }
    let way_ms = |slow: bool| if slow { rng.between(500, faults.slow_ms.into()) } else { rng.between(1, 20) };
    hang(world, way_ms(slow)).await;
    let cut = world.profile(profile).cut.get();
    if cut.takes(&request.path) {
        world.met(cut.kind(), profile);
        if rng.chance(1, 4) {
            hang(world, limits::REQUEST_MS_MAX).await;
        }
        return;
    }
    if rng.chance(faults.request_lost.into(), 1_000) {
        world.met("request_lost", profile);
        world.exec.sleep(rng.between(1, 5_000)).await;
        return;
    }
    if rng.chance(faults.duplicated.into(), 1_000) {
        world.met("duplicated", profile);
        let late = if rng.chance(1, 3) { rng.between(1_000, 90_000) } else { rng.between(1, 50) };
        let (again, world_then) = (request.clone(), Rc::clone(world));
        world.exec.spawn(0, profile, async move {
            world_then.exec.sleep(late).await;
            world_then.serve(profile, &again);
        });
    }
    if rng.chance(faults.replayed.into(), 1_000) {
        let late = rng.between(3_600_000, 6 * 3_600_000);
        let (again, then) = (request.clone(), Rc::clone(world));
        world.exec.spawn(0, profile, async move {
            then.exec.sleep(late).await;
            if !then.is_calm.get() {
                then.met("replayed_hours_later", profile);
                then.serve(profile, &again);
            }
        });
    }
    if rng.chance(faults.error_500.into(), 1_000) {
        world.met("answered_500", profile);
        if request.path == "/push" {
            world.model.borrow_mut().faulty_answer(profile);
        }
        let _ = answer.send(HttpResponse { status: 500, retry_after_ms: None, body: String::new() });
        return;
    }
    world.arrived(profile, number);
    let Some(mut response) = world.serve(profile, &request) else {
        world.exec.sleep(rng.between(1, 2_000)).await;
        return;
    };
    hang(world, way_ms(slow && rng.chance(1, 2))).await;
    if rng.chance(faults.answer_lost.into(), 1_000) || world.profile(profile).cut.get().takes(&request.path) {
        world.met("answer_lost", profile);
        world.exec.sleep(rng.between(1, 5_000)).await;
        return;
    }
    let mut is_whole = true;
    if rng.chance(faults.answer_cut.into(), 1_000) {
        world.met("answer_cut", profile);
        let half = (0..=response.body.len() / 2).rev().find(|at| response.body.is_char_boundary(*at)).unwrap_or(0);
        response.body.truncate(half);
        is_whole = false;
    }
    if rng.chance(faults.corrupt.into(), 1_000) && !response.body.is_empty() {
        world.met("corrupt_in_transit", profile);
        if rng.chance(1, 2) {
            // The line has checksums of its own and gives up.
            return;
        }
        spoil(&mut response.body, rng.next());
        is_whole = false;
    }
    if request.path == "/push" && (!is_whole || matches!(response.status, 413 | 500)) {
        world.model.borrow_mut().faulty_answer(profile);
    }
    let _ = answer.send(response);
}

/// One byte that a text of JSON needs becomes another: the end of a string.
fn spoil(body: &mut String, pick: u64) {
    let is_end = |at: &usize| *at == 0 || body.as_bytes()[*at - 1] != b'\\';
    let places: Vec<usize> = body.match_indices('"').map(|(at, _)| at).filter(is_end).collect();
    if let Some(at) = places.get((pick % places.len().max(1) as u64) as usize) {
        body.replace_range(*at..=*at, "~");
    }
}

/// Time on the way; a network that works again loses no more of it.
async fn hang(world: &World, ms: u64) {
    let until = world.exec.now_ms() + ms;
    while world.exec.now_ms() < until {
        let left = until - world.exec.now_ms();
        world.exec.sleep(left.min(500)).await;
        if world.is_calm.get() {
            return;
        }
    }
}
