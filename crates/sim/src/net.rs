//! The link between a profile and the server: slow, cut, one-sided, forgetful, repeating itself.

use crate::exec::Sleep;
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
}

impl Cut {
    pub fn is_all(self) -> bool {
        self == Self::All
    }
    fn takes(self, path: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Push => path == "/push",
            Self::Pull => path == "/pull",
        }
    }
}

/// One request: answered, or a network error; never longer than a browser waits.
pub async fn fetch(world: &Rc<World>, profile: usize, request: HttpRequest) -> Result<HttpResponse, NetworkError> {
    let (answer, mut waiting) = oneshot::channel();
    let carrier = Rc::clone(world);
    // Once sent, a request is out of its sender's hands: it arrives even if its context dies.
    world.exec.spawn(0, profile, async move { carry(&carrier, profile, request, answer).await });
    let mut limit: Sleep = world.exec.sleep(limits::REQUEST_MS_MAX);
    std::future::poll_fn(|context| {
        if let Poll::Ready(answer) = Pin::new(&mut waiting).poll(context) {
            return Poll::Ready(answer.map_err(|_| NetworkError));
        }
        Pin::new(&mut limit).poll(context).map(|()| Err(NetworkError))
    })
    .await
}

async fn carry(world: &Rc<World>, profile: usize, request: HttpRequest, answer: oneshot::Sender<HttpResponse>) {
    let (faults, rng) = {
        let link = world.profile(profile);
        (if world.is_calm.get() { LinkFaults::default() } else { link.link }, link.rng.clone())
    };
    let slow = rng.chance(faults.slow.into(), 1_000);
    if slow {
        world.fault(profile, || "slow request".to_owned());
    }
    let way_ms = |slow: bool| if slow { rng.between(500, faults.slow_ms.into()) } else { rng.between(1, 20) };
    hang(world, way_ms(slow)).await;
    if world.profile(profile).cut.get().takes(&request.path) {
        world.fault(profile, || format!("{} cut off", request.path));
        if rng.chance(1, 4) {
            hang(world, limits::REQUEST_MS_MAX).await;
        }
        return;
    }
    if rng.chance(faults.request_lost.into(), 1_000) {
        world.fault(profile, || format!("{} lost", request.path));
        world.exec.sleep(rng.between(1, 5_000)).await;
        return;
    }
    if rng.chance(faults.duplicated.into(), 1_000) {
        world.fault(profile, || format!("{} duplicated", request.path));
        let late = if rng.chance(1, 3) { rng.between(1_000, 90_000) } else { rng.between(1, 50) };
        let (again, world_then) = (request.clone(), Rc::clone(world));
        world.exec.spawn(0, profile, async move {
            world_then.exec.sleep(late).await;
            world_then.serve(profile, &again);
        });
    }
    if rng.chance(faults.error_500.into(), 1_000) {
        world.fault(profile, || format!("{} answered 500", request.path));
        let _ = answer.send(HttpResponse { status: 500, retry_after_ms: None, body: String::new() });
        return;
    }
    let Some(mut response) = world.serve(profile, &request) else {
        world.exec.sleep(rng.between(1, 2_000)).await;
        return;
    };
    hang(world, way_ms(slow && rng.chance(1, 2))).await;
    if rng.chance(faults.answer_lost.into(), 1_000) || world.profile(profile).cut.get().takes(&request.path) {
        world.fault(profile, || format!("answer to {} lost", request.path));
        world.exec.sleep(rng.between(1, 5_000)).await;
        return;
    }
    if rng.chance(faults.answer_cut.into(), 1_000) {
        world.fault(profile, || format!("answer to {} cut short", request.path));
        let half = (0..=response.body.len() / 2).rev().find(|at| response.body.is_char_boundary(*at)).unwrap_or(0);
        response.body.truncate(half);
    }
    let _ = answer.send(response);
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
