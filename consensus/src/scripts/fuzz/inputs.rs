//! What a group can be told, in words that keep their meaning whatever state it is in: "the entry after the last", "one term below".
//!
//! Here: [`Act`] and its parts, and how they are drawn. Not here: what they come to in a given state (`bench`).

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A place in the log, named by what the group knows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Zero,
    Base,
    Applied,
    Committed,
    Persisted,
    Last,
    /// Just above what anybody believes.
    Huge,
    Max,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place(pub(super) Anchor, pub(super) i64);

/// A term: `Held` is that of the entry at the place it goes with, if the group has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reign {
    Held,
    Now(i64),
    Max,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Spot(pub(super) Place, pub(super) Reign);

#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    Normal(usize),
    Noop,
    /// Voters and learners as bits; an odd byte more makes it undecodable.
    Configuration {
        voters: u8,
        outgoing: u8,
        learners: u8,
        odd: bool,
    },
}

/// One entry of an append: normally the next one, in the term of the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) skip: u64,
    pub(super) later: i64,
    pub(super) load: Load,
}

#[derive(Clone, Debug)]
pub(super) enum Said {
    PreVote {
        campaign: Reign,
        last: Spot,
    },
    PreVoteReply {
        campaign: Reign,
        granted: bool,
    },
    Vote {
        last: Spot,
        transfer: bool,
    },
    VoteReply {
        granted: bool,
    },
    Append {
        prev: Spot,
        pieces: Vec<Piece>,
        commit: Place,
    },
    Appended {
        matched: Place,
    },
    Conflict {
        rejected: Place,
        hint: Spot,
    },
    Committed {
        commit: Place,
    },
    /// A commit beyond the log says that this replica lost data, and ends it: said rarely.
    Heartbeat {
        round: u64,
        upto: Place,
        commit: Place,
    },
    HeartbeatReply {
        round: u64,
        upto: Place,
        received: Place,
        matched: Place,
    },
    /// Without a total it is the last one, without an offset the next one.
    Chunk {
        serial: u64,
        spot: Spot,
        voters: u8,
        since: Place,
        total: Option<u64>,
        offset: Option<u64>,
        bytes: usize,
    },
    ChunkReply {
        serial: u64,
        next: u64,
        step: u8,
    },
    ReadRequest {
        life: u64,
        upto: u64,
    },
    ReadAnswer {
        life: u64,
        upto: u64,
        index: Option<Place>,
    },
    CampaignNow,
    Outdated,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Milliseconds pass, and it ticks; the clock of a machine that slept may jump by years.
    Wait(u64),
    /// A message from replica `from` (5: one that nobody knows), of a term relative to the group's.
    Receive {
        from: u64,
        term: Reign,
        said: Said,
    },
    /// A peer answers the `nth` of the last messages as a peer would.
    Answer(usize),
    /// Or refuses it, as one whose log is empty would.
    Refuse(usize),
    /// Peers go along with all of them.
    AnswerAll,
    /// The disk does the next writes, in order.
    Write(usize),
    /// The disk does everything, and says so.
    Settle,
    /// A completion arrives: of any write that is done, maybe again.
    Completed(usize),
    /// The state machine says how far it is; also nonsense.
    Applied(Place),
    Compact {
        through: Place,
        all: bool,
    },
    Propose(usize),
    Read,
    ReadHere,
    Prefer(u64),
    Campaign,
    PeerSilent(u64),
    /// By its leader, if it follows one.
    TakeClaim {
        by: u64,
        term: Reign,
        last: Place,
    },
    /// The last claim that it made itself.
    ClaimTaken(u64),
    Rouse,
    Change {
        voters: u8,
        learners: u8,
        outdated: bool,
    },
    Transfer(u64),
    PrepareTransfer(u64),
    /// Answers `SnapshotNeeded` (`to` is 0), or comes unasked.
    Provide {
        to: u64,
        at: Place,
        bytes: usize,
    },
    /// Answers `ReadChunk`; or says that it could not be read.
    ChunkRead(bool),
    /// Answers `StoreChunk`; or says that it could not be stored.
    ChunkStored(bool),
    /// The state was replaced; or another one, or none, or so it says.
    Installed {
        other: bool,
        refused: bool,
    },
    /// What is in memory is lost, and the writes that the disk has not done.
    Crash,
}

/// An input, and whether effects are drawn before the next one.
pub(super) type Step = (Act, bool);

fn place() -> impl Strategy<Value = Place> {
    use Anchor::{Applied, Base, Committed, Huge, Last, Max, Persisted, Zero};
    let anchor = prop_oneof![
        8 => Just(Last),
        5 => Just(Committed),
        4 => Just(Persisted),
        3 => Just(Applied),
        3 => Just(Base),
        2 => Just(Zero),
        1 => prop_oneof![Just(Huge), Just(Max)],
    ];
    let off = prop_oneof![8 => Just(0_i64), 4 => -2_i64..=2, 1 => -9_i64..=9];
    (anchor, off).prop_map(|(anchor, off)| Place(anchor, off))
}

pub(super) fn term() -> impl Strategy<Value = Reign> {
    prop_oneof![
        85 => Just(Reign::Now(0)),
        6 => Just(Reign::Now(1)),
        6 => (-2_i64..=3).prop_map(Reign::Now),
        1 => Just(Reign::Max),
    ]
}

fn spot() -> impl Strategy<Value = Spot> {
    let reign = prop_oneof![6 => Just(Reign::Held), 2 => term()];
    (place(), reign).prop_map(|(place, reign)| Spot(place, reign))
}

fn members() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0b0111_u8), 3 => 1_u8..32, 1 => any::<u8>()]
}

fn load() -> impl Strategy<Value = Load> {
    prop_oneof![
        10 => (0_usize..150).prop_map(Load::Normal),
        2 => Just(Load::Noop),
        3 => (members(), prop_oneof![4 => Just(0_u8), 1 => members()], prop_oneof![2 => Just(0_u8), 1 => any::<u8>()],
              prop::bool::weighted(0.1))
            .prop_map(|(voters, outgoing, learners, odd)| Load::Configuration { voters, outgoing, learners, odd }),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    let skip = prop_oneof![30 => Just(1_u64), 1 => 0_u64..4];
    let later = prop_oneof![20 => Just(0_i64), 2 => 0_i64..3, 1 => -2_i64..9];
    (skip, later, load()).prop_map(|(skip, later, load)| Piece { skip, later, load })
}

pub(super) fn said() -> impl Strategy<Value = Said> {
    let serial = || prop_oneof![8 => Just(1_u64), 2 => 0_u64..4];
    let small = || prop_oneof![10 => 0_u64..70, 1 => any::<u64>()];
    // A snapshot of more than the log holds, mostly.
    let beyond = prop_oneof![3 => (1_i64..20).prop_map(|off| Spot(Place(Anchor::Last, off), Reign::Held)), 1 => spot()];
    let since = prop_oneof![5 => Just(Place(Anchor::Base, 0)), 1 => place()];
    prop_oneof![
        2 => (term(), spot()).prop_map(|(campaign, last)| Said::PreVote { campaign, last }),
        2 => (term(), any::<bool>()).prop_map(|(campaign, granted)| Said::PreVoteReply { campaign, granted }),
        3 => (spot(), any::<bool>()).prop_map(|(last, transfer)| Said::Vote { last, transfer }),
        3 => any::<bool>().prop_map(|granted| Said::VoteReply { granted }),
        12 => (spot(), vec(piece(), 0..5), place()).prop_map(|(prev, pieces, commit)| Said::Append { prev, pieces, commit }),
        4 => place().prop_map(|matched| Said::Appended { matched }),
        3 => (place(), spot()).prop_map(|(rejected, hint)| Said::Conflict { rejected, hint }),
        2 => place().prop_map(|commit| Said::Committed { commit }),
        4 => (0_u64..9, place(), prop_oneof![30 => Just(Place(Anchor::Committed, 0)), 10 => Just(Place(Anchor::Last, 0)), 1 => place()])
            .prop_map(|(round, upto, commit)| Said::Heartbeat { round, upto, commit }),
        3 => (0_u64..9, place(), place(), place())
            .prop_map(|(round, upto, received, matched)| Said::HeartbeatReply { round, upto, received, matched }),
        8 => (serial(), beyond, members(), since, option::weighted(0.5, small()), option::weighted(0.2, small()), 0_usize..40)
            .prop_map(|(serial, spot, voters, since, total, offset, bytes)| Said::Chunk {
                serial, spot, voters, since, total, offset, bytes,
            }),
        2 => (serial(), small(), 0_u8..3).prop_map(|(serial, next, step)| Said::ChunkReply { serial, next, step }),
        1 => (0_u64..3, small()).prop_map(|(life, upto)| Said::ReadRequest { life, upto }),
        1 => (0_u64..3, small(), option::of(place())).prop_map(|(life, upto, index)| Said::ReadAnswer { life, upto, index }),
        1 => Just(Said::CampaignNow),
        1 => Just(Said::Outdated),
    ]
}

/// With so many foreign messages among about 100 inputs.
fn act(foreign: u32) -> impl Strategy<Value = Act> {
    prop_oneof![
        foreign => (1_u64..6, term(), said()).prop_map(|(from, term, said)| Act::Receive { from, term, said }),
        8 => prop_oneof![20 => 0_u64..700, 4 => 700_u64..4_000, 1 => 0_u64..1_000_000_000_000].prop_map(Act::Wait),
        10 => (0_usize..6).prop_map(Act::Answer),
        12 => (0_usize..6).prop_map(Act::Refuse),
        14 => Just(Act::AnswerAll),
        6 => (1_usize..4).prop_map(Act::Write),
        8 => (0_usize..5).prop_map(Act::Completed),
        16 => Just(Act::Settle),
        12 => prop_oneof![1 => Just(Place(Anchor::Committed, 0)), 1 => place()].prop_map(Act::Applied),
        8 => (prop_oneof![2 => Just(Place(Anchor::Applied, 0)), 1 => place()], any::<bool>()).prop_map(|(through, all)| Act::Compact { through, all }),
        10 => (0_usize..150).prop_map(Act::Propose),
        4 => Just(Act::Read),
        2 => Just(Act::ReadHere),
        1 => (0_u64..4).prop_map(Act::Prefer),
        3 => Just(Act::Campaign),
        1 => (1_u64..6).prop_map(Act::PeerSilent),
        4 => (1_u64..6, term(), prop_oneof![4 => Just(Place(Anchor::Last, 0)), 1 => place()])
            .prop_map(|(by, term, last)| Act::TakeClaim { by, term, last }),
        6 => (1_u64..6).prop_map(Act::ClaimTaken),
        1 => Just(Act::Rouse),
        4 => (members(), prop_oneof![1 => Just(0_u8), 1 => any::<u8>()], prop::bool::weighted(0.1))
            .prop_map(|(voters, learners, outdated)| Act::Change { voters, learners, outdated }),
        1 => (1_u64..6).prop_map(Act::Transfer),
        1 => (1_u64..6).prop_map(Act::PrepareTransfer),
        20 => (prop_oneof![5 => Just(0_u64), 1 => 1_u64..6], prop_oneof![5 => Just(Place(Anchor::Applied, 0)), 1 => place()], 0_usize..80)
            .prop_map(|(to, at, bytes)| Act::Provide { to, at, bytes }),
        8 => prop::bool::weighted(0.9).prop_map(Act::ChunkRead),
        8 => prop::bool::weighted(0.9).prop_map(Act::ChunkStored),
        6 => (prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(other, refused)| Act::Installed { other, refused }),
        1 => Just(Act::Crash),
    ]
}

/// How a run begins: as a founding voter of so many, or (0) as a newcomer.
pub(super) fn voters() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(3_u64), 1 => Just(0), 1 => Just(1), 1 => Just(2), 1 => Just(5)]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let steps = |foreign| vec((act(foreign), prop::bool::weighted(0.9)), 1..250);
    prop_oneof![steps(3), steps(12), steps(60)]
}
