//! The filters of one route in their order, and where an exchange stands among them. Runs one filter after the other
//! until one decides otherwise; after a pause it goes on behind the one that paused. Called by the machines.

use bowline_protocols::http::HttpHead;
use serde::Deserialize;
use serde::Serialize;

use crate::config::http::EditPlan;
use crate::config::http::FiltersPlan;
use crate::filter::contract::Call;
use crate::filter::contract::Filter;
use crate::filter::contract::Verdict;
use crate::filter::edit::Edit;
use crate::filter::fault::Abort;
use crate::filter::fault::Delay;

/// The filters of one route.
#[derive(Debug, Default)]
pub struct Chain {
    filters: Box<[Box<dyn Filter>]>,
}

/// How many filters have let pass what an exchange has at hand. It is at the start again once all have, so one serves
/// for all that passes in one direction. Plain data, which freezes with its exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position(u8);

impl Chain {
    /// The filters of `plan`: a delay, a failure, then edits.
    pub fn of(plan: &FiltersPlan) -> Chain {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        if let Some(delay) = plan.delay {
            filters.push(Box::new(Delay(delay)));
        }
        if let Some(abort) = plan.abort {
            filters.push(Box::new(Abort(abort)));
        }
        if plan.request != EditPlan::default() || plan.response != EditPlan::default() {
            filters.push(Box::new(Edit::new(&plan.request, &plan.response)));
        }
        Chain::new(filters)
    }

    /// These filters.
    ///
    /// # Panics
    /// When they are more than 200, which no configuration makes.
    pub fn new(filters: Vec<Box<dyn Filter>>) -> Chain {
        assert!(filters.len() <= FILTERS_MAX, "a position counts no further");
        Chain { filters: filters.into() }
    }

    /// Whether nothing stands in the way, so that nobody needs to ask.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The head of a request, or what is left of its way after a pause.
    pub fn on_request_head(&self, head: &mut HttpHead, call: &Call, at: &mut Position) -> Verdict {
        self.request(call, at, |filter, call| filter.on_request_head(head, call))
    }

    /// A piece of a request's body.
    pub fn on_request_body(&self, piece: &[u8], call: &Call, at: &mut Position) -> Verdict {
        self.request(call, at, |filter, call| filter.on_request_body(piece, call))
    }

    /// The trailers of a request.
    pub fn on_request_trailers(&self, trailers: &mut HttpHead, call: &Call, at: &mut Position) -> Verdict {
        self.request(call, at, |filter, call| filter.on_request_trailers(trailers, call))
    }

    /// The head of a response.
    pub fn on_response_head(&self, head: &mut HttpHead, call: &Call, at: &mut Position) -> Verdict {
        self.response(call, at, |filter, call| filter.on_response_head(head, call))
    }

    /// A piece of a response's body.
    pub fn on_response_body(&self, piece: &[u8], call: &Call, at: &mut Position) -> Verdict {
        self.response(call, at, |filter, call| filter.on_response_body(piece, call))
    }

    /// The trailers of a response.
    pub fn on_response_trailers(&self, trailers: &mut HttpHead, call: &Call, at: &mut Position) -> Verdict {
        self.response(call, at, |filter, call| filter.on_response_trailers(trailers, call))
    }

    fn request(
        &self,
        call: &Call,
        at: &mut Position,
        ask: impl FnMut(&dyn Filter, &Call) -> Verdict,
    ) -> Verdict {
        self.run(|passed| passed, call, at, ask)
    }

    fn response(
        &self,
        call: &Call,
        at: &mut Position,
        ask: impl FnMut(&dyn Filter, &Call) -> Verdict,
    ) -> Verdict {
        self.run(|passed| self.filters.len() - 1 - passed, call, at, ask)
    }

    fn run(
        &self,
        filter_at: impl Fn(usize) -> usize,
        call: &Call,
        at: &mut Position,
        mut ask: impl FnMut(&dyn Filter, &Call) -> Verdict,
    ) -> Verdict {
        while usize::from(at.0) < self.filters.len() {
            let filter = filter_at(usize::from(at.0));
            at.0 += 1;
            let own = Call { random: mixed(call.random, filter as u64), ..*call };
            match ask(&*self.filters[filter], &own) {
                Verdict::Continue => {}
                pause @ Verdict::Pause { .. } => return pause,
                last @ (Verdict::Reply(_) | Verdict::Reset) => {
                    *at = Position::default();
                    return last;
                }
            }
        }
        *at = Position::default();
        Verdict::Continue
    }
}

/// Another number for each filter, so that a delay says nothing about a failure (the finisher of SplitMix64).
fn mixed(random: u64, filter: u64) -> u64 {
    let mut z = random.wrapping_add((filter + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Filters of one route.
const FILTERS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use bowline_engine::time::Time;

    use super::*;
    use crate::config::http::AbortPlan;
    use crate::config::http::DelayPlan;
    use crate::config::http::FieldPlan;
    use crate::filter::contract::Reply;

    const CALL: Call = Call { now: Time::ZERO, random: 7 };

    /// Writes its name into what passes and says what it was told to.
    #[derive(Debug)]
    struct Mark(&'static str, Verdict);

    impl Filter for Mark {
        fn on_request_head(&self, head: &mut HttpHead, _call: &Call) -> Verdict {
            head.add_field(b"seen-by", self.0.as_bytes()).expect("a field");
            self.1
        }

        fn on_response_head(&self, head: &mut HttpHead, call: &Call) -> Verdict {
            self.on_request_head(head, call)
        }

        fn on_request_body(&self, piece: &[u8], _call: &Call) -> Verdict {
            if piece == self.0.as_bytes() { Verdict::Reset } else { self.1 }
        }

        fn on_response_body(&self, piece: &[u8], call: &Call) -> Verdict {
            self.on_request_body(piece, call)
        }

        fn on_request_trailers(&self, trailers: &mut HttpHead, call: &Call) -> Verdict {
            self.on_request_head(trailers, call)
        }

        fn on_response_trailers(&self, trailers: &mut HttpHead, call: &Call) -> Verdict {
            self.on_request_head(trailers, call)
        }
    }

    fn chain(verdicts: [Verdict; 3]) -> Chain {
        let [a, b, c] = verdicts;
        Chain::new(vec![Box::new(Mark("a", a)), Box::new(Mark("b", b)), Box::new(Mark("c", c))])
    }

    fn seen(head: &HttpHead) -> String {
        head.fields().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn requests_pass_in_order_and_responses_in_reverse() {
        let chain = chain([Verdict::Continue; 3]);
        let mut at = Position::default();
        let hooks: [(fn(&Chain, &mut HttpHead, &Call, &mut Position) -> Verdict, &str); 4] = [
            (Chain::on_request_head, "abc"),
            (Chain::on_request_trailers, "abc"),
            (Chain::on_response_head, "cba"),
            (Chain::on_response_trailers, "cba"),
        ];
        for (hook, order) in hooks {
            let mut head = HttpHead::default();
            assert_eq!(hook(&chain, &mut head, &CALL, &mut at), Verdict::Continue);
            assert_eq!((seen(&head).as_str(), at), (order, Position::default()));
        }
    }

    #[test]
    fn after_a_pause_it_goes_on_at_the_next_filter() {
        let pause = Verdict::Pause { until: Time::from_ms(9) };
        let chain = chain([Verdict::Continue, pause, Verdict::Continue]);
        let (mut head, mut at) = (HttpHead::default(), Position::default());
        assert_eq!(chain.on_request_head(&mut head, &CALL, &mut at), pause);
        assert_eq!(seen(&head), "ab");
        let frozen = serde_json::to_string(&at).expect("plain data");
        let mut thawed = serde_json::from_str(&frozen).expect("plain data");
        assert_eq!(chain.on_request_head(&mut head, &CALL, &mut thawed), Verdict::Continue);
        assert_eq!((seen(&head).as_str(), thawed), ("abc", Position::default()));
        let (mut head, mut at) = (HttpHead::default(), Position::default());
        assert_eq!(chain.on_response_head(&mut head, &CALL, &mut at), pause);
    }

    #[test]
    fn a_reply_or_a_reset_is_the_last_word() {
        let reply = Verdict::Reply(Reply { status: 403, reason: "test" });
        for verdict in [reply, Verdict::Reset] {
            let chain = chain([Verdict::Continue, verdict, Verdict::Continue]);
            let (mut head, mut at) = (HttpHead::default(), Position::default());
            assert_eq!(chain.on_request_head(&mut head, &CALL, &mut at), verdict);
            assert_eq!((seen(&head).as_str(), at), ("ab", Position::default()));
        }
    }

    #[test]
    fn every_filter_sees_every_piece_of_a_body() {
        let chain = chain([Verdict::Continue; 3]);
        let mut at = Position::default();
        for piece in ["a", "b", "c"] {
            assert_eq!(chain.on_request_body(piece.as_bytes(), &CALL, &mut at), Verdict::Reset);
            assert_eq!(chain.on_response_body(piece.as_bytes(), &CALL, &mut at), Verdict::Reset);
        }
        assert_eq!(chain.on_request_body(b"d", &CALL, &mut at), Verdict::Continue);
    }

    #[test]
    fn a_plan_becomes_a_delay_then_a_failure_then_edits() {
        let set = vec![FieldPlan { name: "x-a".to_owned(), value: "1".to_owned() }];
        let plan = FiltersPlan {
            delay: Some(DelayPlan { ms: 10, percent: 100 }),
            abort: Some(AbortPlan { status: 503, percent: 50 }),
            request: EditPlan { set, ..EditPlan::default() },
            response: EditPlan::default(),
        };
        let chain = Chain::of(&plan);
        let mut outcomes = [0_u32, 0];
        for random in 0..1_000 {
            let (mut head, mut at) = (HttpHead::default(), Position::default());
            let call = Call { random, ..CALL };
            let pause = Verdict::Pause { until: Time::from_ms(10) };
            assert_eq!(chain.on_request_head(&mut head, &call, &mut at), pause);
            assert_eq!(head.fields_len(), 0);
            match chain.on_request_head(&mut head, &call, &mut at) {
                Verdict::Reply(Reply { status: 503, .. }) => outcomes[0] += 1,
                Verdict::Continue => {
                    assert_eq!(head.field(b"X-A"), Some(&b"1"[..]));
                    outcomes[1] += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        // Half of small numbers too: they are mixed.
        assert!(outcomes[0].abs_diff(outcomes[1]) < 150, "{outcomes:?}");
        assert!(Chain::of(&FiltersPlan::default()).is_empty());
    }
}
