//! A backend of signing keys that is no file: in memory, slow, and failing when a test wants it to.

use countersign::domain::{Entropy as _, Purpose, SystemEntropy};
use countersign::signing::{
    BackendAnswer, BackendKey, Ed25519, Es256, KeyBackend, KeyBackendError, Rs256, Signer, Signing, SigningError,
};
use countersign_verify::key::Algorithm;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Keys in memory, as a key service would hold them.
#[derive(Clone, Default)]
pub struct RemoteKeys(Arc<State>);

#[derive(Default)]
struct State {
    keys: Mutex<Vec<BackendKey>>,
    halves: Mutex<Vec<String>>,
    /// Signatures that were asked for, and how many of them failed.
    asked: AtomicU32,
    failed: AtomicU32,
    /// Every so many signatures one fails; zero for none.
    fails_every: AtomicU32,
    /// The number of signatures after which all fail; zero for never.
    breaks_at: AtomicU32,
    /// True while nothing is answered.
    hangs: AtomicBool,
    resumed: Notify,
    /// Signatures that are being waited for.
    waiting: AtomicU32,
    /// True if another key than the one that is named signs.
    lies: AtomicBool,
}

impl RemoteKeys {
    /// Fails one of `every` signatures from now on.
    pub fn fail_every(&self, every: u32) {
        self.0.fails_every.store(every, Ordering::SeqCst);
    }

    /// Answers nothing from now on, or again.
    pub fn hang(&self, hangs: bool) {
        self.0.hangs.store(hangs, Ordering::SeqCst);
        self.0.resumed.notify_waiters();
    }

    /// Signs with another key than the one that is asked for, from now on or no more.
    pub fn lie(&self, lies: bool) {
        self.0.lies.store(lies, Ordering::SeqCst);
    }

    /// Fails every signature after the next `count`.
    pub fn break_after(&self, count: u32) {
        self.0.breaks_at.store(self.asked() + count, Ordering::SeqCst);
    }

    pub fn asked(&self) -> u32 {
        self.0.asked.load(Ordering::SeqCst)
    }

    pub fn failed(&self) -> u32 {
        self.0.failed.load(Ordering::SeqCst)
    }

    pub fn waiting(&self) -> u32 {
        self.0.waiting.load(Ordering::SeqCst)
    }
}

impl State {
    fn answer<'a, T: Send + 'a>(&'a self, work: impl FnOnce(&Self) -> T + Send + 'a) -> BackendAnswer<'a, T> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok::<T, KeyBackendError>(work(self))
        })
    }
}

impl KeyBackend for RemoteKeys {
    fn place(&self) -> String {
        "the test's key service".to_owned()
    }

    fn list(&self) -> BackendAnswer<'_, Vec<BackendKey>> {
        self.0.answer(|state| state.keys.lock().unwrap().clone())
    }

    fn create(&self, purpose: Purpose, algorithm: Algorithm) -> BackendAnswer<'_, BackendKey> {
        let signer = Arc::new(RemoteKey { own: local(algorithm), other: local(algorithm), state: Arc::clone(&self.0) });
        self.0.answer(move |state| {
            let key = BackendKey { purpose, signer };
            state.keys.lock().unwrap().push(key.clone());
            key
        })
    }

    fn remove(&self, kid: &str, public_half: Option<String>) -> BackendAnswer<'_, ()> {
        let kid = kid.to_owned();
        self.0.answer(move |state| {
            state.keys.lock().unwrap().retain(|key| key.signer.key_id() != kid);
            state.halves.lock().unwrap().extend(public_half);
        })
    }

    fn public_halves(&self) -> BackendAnswer<'_, Vec<String>> {
        self.0.answer(|state| state.halves.lock().unwrap().clone())
    }
}

/// A key that is used over there.
struct RemoteKey {
    own: Arc<dyn Signer>,
    other: Arc<dyn Signer>,
    state: Arc<State>,
}

fn local(algorithm: Algorithm) -> Arc<dyn Signer> {
    let mut random = zeroize::Zeroizing::new([0; 32]);
    SystemEntropy.fill(random.as_mut_slice()).unwrap();
    match algorithm {
        Algorithm::EdDsa => Arc::new(Ed25519::from_pkcs8(Ed25519::generate(&random).unwrap().as_bytes()).unwrap()),
        Algorithm::Rs256 => Arc::new(Rs256::from_pkcs8(Rs256::generate().unwrap().as_ref()).unwrap()),
        _ => Arc::new(Es256::from_pkcs8(Es256::generate(&random).unwrap().as_bytes()).unwrap()),
    }
}

/// Counts a signature that is waited for, as long as somebody waits for it.
struct Waiting(Arc<State>);

impl Waiting {
    fn count(state: &Arc<State>) -> Self {
        state.waiting.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(state))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Signer for RemoteKey {
    fn key_id(&self) -> &str {
        self.own.key_id()
    }

    fn algorithm(&self) -> Algorithm {
        self.own.algorithm()
    }

    fn public_jwk(&self) -> &Map<String, Value> {
        self.own.public_jwk()
    }

    fn sign(&self, message: &[u8]) -> Signing {
        let (state, message) = (Arc::clone(&self.state), message.to_vec());
        let signer = if state.lies.load(Ordering::SeqCst) { &self.other } else { &self.own };
        let signer = Arc::clone(signer);
        Signing::Later(Box::pin(async move {
            let waiting = Waiting::count(&state);
            tokio::time::sleep(Duration::from_millis(5)).await;
            loop {
                let resumed = state.resumed.notified();
                if !state.hangs.load(Ordering::SeqCst) {
                    break;
                }
                resumed.await;
            }
            drop(waiting);
            let number = state.asked.fetch_add(1, Ordering::SeqCst) + 1;
            let every = state.fails_every.load(Ordering::SeqCst);
            let breaks_at = state.breaks_at.load(Ordering::SeqCst);
            if (every > 0 && number.is_multiple_of(every)) || (breaks_at > 0 && number > breaks_at) {
                state.failed.fetch_add(1, Ordering::SeqCst);
                return Err(SigningError::Unusable);
            }
            match signer.sign(&message) {
                Signing::Now(signature) => signature,
                Signing::Later(signature) => signature.await,
            }
        }))
    }
}
