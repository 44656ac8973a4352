//! The filter that edits heads: removes, sets and adds fields of requests and of responses. The loader has refused names
//! that are not the operator's to write; trailers and bodies pass unchanged.

use bowline_protocols::http::FieldError;
use bowline_protocols::http::HttpHead;

use crate::config::http::EditPlan;
use crate::filter::contract::Call;
use crate::filter::contract::Filter;
use crate::filter::contract::Reply;
use crate::filter::contract::Verdict;

/// Edits of both heads.
#[derive(Debug)]
pub struct Edit {
    request: EditPlan,
    response: EditPlan,
}

impl Edit {
    /// These edits.
    pub fn new(request: &EditPlan, response: &EditPlan) -> Edit {
        Edit { request: request.clone(), response: response.clone() }
    }
}

impl Filter for Edit {
    fn on_request_head(&self, head: &mut HttpHead, _call: &Call) -> Verdict {
        verdict(apply(&self.request, head))
    }

    fn on_response_head(&self, head: &mut HttpHead, _call: &Call) -> Verdict {
        verdict(apply(&self.response, head))
    }
}

fn apply(plan: &EditPlan, head: &mut HttpHead) -> Result<(), FieldError> {
    let replaced = plan.set.iter().map(|field| &field.name);
    for name in plan.remove.iter().chain(replaced) {
        head.remove_field(name.as_bytes());
    }
    let mut written = plan.set.iter().chain(&plan.add);
    written.try_for_each(|field| head.add_field(field.name.as_bytes(), field.value.as_bytes()))
}

/// A head without a field that an operator relies on must not pass.
fn verdict(done: Result<(), FieldError>) -> Verdict {
    match done {
        Ok(()) => Verdict::Continue,
        Err(FieldError) => Verdict::Reply(Reply { status: 500, reason: "header_edit" }),
    }
}

#[cfg(test)]
mod tests {
    use bowline_engine::time::Time;

    use super::*;
    use crate::config::http::FieldPlan;

    const CALL: Call = Call { now: Time::ZERO, random: 0 };

    fn field(name: &str, value: &str) -> FieldPlan {
        FieldPlan { name: name.to_owned(), value: value.to_owned() }
    }

    fn fields(head: &HttpHead) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        head.fields().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn fields_are_removed_then_set_then_added() {
        let request = EditPlan {
            remove: vec!["x-a".to_owned(), "x-d".to_owned()],
            set: vec![field("X-B", "new")],
            add: vec![field("X-C", "second"), field("X-D", "back")],
        };
        let response = EditPlan { remove: vec!["server".to_owned()], ..EditPlan::default() };
        let edit = Edit::new(&request, &response);
        let mut head = HttpHead::default();
        for (name, value) in [("X-A", "1"), ("x-b", "1"), ("X-b", "2"), ("X-C", "first"), ("X-A", "2")] {
            head.add_field(name.as_bytes(), value.as_bytes()).expect("a field");
        }
        assert_eq!(edit.on_request_head(&mut head, &CALL), Verdict::Continue);
        let right = [("X-C", "first"), ("X-B", "new"), ("X-C", "second"), ("X-D", "back")];
        assert_eq!(fields(&head), pairs(&right));
        head.clear();
        head.add_field(b"Server", b"x").expect("a field");
        head.add_field(b"X-A", b"1").expect("a field");
        assert_eq!(edit.on_response_head(&mut head, &CALL), Verdict::Continue);
        assert_eq!(fields(&head), pairs(&[("X-A", "1")]));
    }

    #[test]
    fn what_cannot_be_written_does_not_pass_without_it() {
        let edit = Edit::new(
            &EditPlan { set: vec![field("Host", "x")], ..EditPlan::default() },
            &EditPlan::default(),
        );
        let refused = Verdict::Reply(Reply { status: 500, reason: "header_edit" });
        assert_eq!(edit.on_request_head(&mut HttpHead::default(), &CALL), refused);
    }
}
