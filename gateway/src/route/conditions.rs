//! What a route wants of a request beyond host and path: methods, fields and query parameters, all of them. Decides on
//! the head alone and changes nothing. Called by the table of HTTP routes, after host and path have matched.

use std::borrow::Cow;

use bowline_protocols::http::HttpHead;

use crate::config::http::Condition;
use crate::config::http::HttpRoutePlan;

/// The conditions of one route.
#[derive(Debug)]
pub(super) struct Conditions {
    methods: Box<[Box<str>]>,
    fields: Box<[Condition]>,
    query: Box<[Condition]>,
}

impl Conditions {
    pub(super) fn of(plan: &HttpRoutePlan) -> Conditions {
        Conditions {
            methods: plan.methods.iter().map(|method| method.as_str().into()).collect(),
            fields: plan.fields.clone().into(),
            query: plan.query.clone().into(),
        }
    }

    /// Whether all of them hold.
    pub(super) fn hold(&self, head: &HttpHead) -> bool {
        let method = head.method_text();
        (self.methods.is_empty() || self.methods.iter().any(|one| one.as_bytes() == method))
            && self.fields.iter().all(|condition| has_field(head, condition))
            && self.query.iter().all(|condition| has_parameter(head.query(), condition))
    }
}

/// Whether any line of that name has the value: a list that is spread over lines is not put together.
fn has_field(head: &HttpHead, condition: &Condition) -> bool {
    let name = condition.name.as_bytes();
    head.fields().any(|(one, value)| one.eq_ignore_ascii_case(name) && condition.wanted.accepts(value))
}

/// Whether any parameter of that name has the value; one without `=` has an empty one.
fn has_parameter(query: Option<&[u8]>, condition: &Condition) -> bool {
    let mut parameters = query.unwrap_or_default().split(|byte| *byte == b'&');
    parameters.any(|parameter| {
        let at = parameter.iter().position(|byte| *byte == b'=').unwrap_or(parameter.len());
        let value = parameter.get(at + 1..).unwrap_or_default();
        *unescaped(&parameter[..at]) == *condition.name.as_bytes()
            && condition.wanted.accepts(&unescaped(value))
    })
}

/// A part of a query as servers read it: `+` is a space, `%XX` a byte; what is no escape stays as it is.
fn unescaped(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(part);
    }
    let mut out = Vec::with_capacity(part.len());
    let mut left = part;
    while let [first, rest @ ..] = left {
        let (byte, rest) = match (first, rest) {
            (b'%', [high, low, rest @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, rest),
                _ => (b'%', &left[1..]),
            },
            (b'+', _) => (b' ', rest),
            _ => (*first, rest),
        };
        out.push(byte);
        left = rest;
    }
    Cow::Owned(out)
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::http::ActionPlan;
    use crate::config::http::Wanted;
    use crate::config::pattern::Pattern;

    fn condition(name: &str, wanted: Wanted) -> Condition {
        Condition { name: name.to_owned(), wanted }
    }

    fn exact(name: &str, value: &str) -> Condition {
        condition(name, Wanted::Exact(value.to_owned()))
    }

    fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> HttpHead {
        let mut head = HttpHead::default();
        head.set_request(method.as_bytes(), b"a", target.as_bytes()).expect("a request");
        for (name, value) in fields {
            head.add_field(name.as_bytes(), value.as_bytes()).expect("a field");
        }
        head
    }

    #[test]
    fn all_conditions_must_hold() {
        let mut plan = HttpRoutePlan::to(ActionPlan::Forward(Vec::new()));
        plan.methods = vec!["GET".to_owned(), "POST".to_owned()];
        plan.fields = vec![condition("x-a", Wanted::Present), exact("x-b", "1")];
        plan.query = vec![exact("q", "2")];
        let conditions = Conditions::of(&plan);
        let fields = [("X-A", ""), ("X-B", "0"), ("X-B", "1")];
        assert!(conditions.hold(&head("GET", "/?q=2", &fields)));
        assert!(conditions.hold(&head("POST", "/?p&q=1&q=2", &fields)));
        for (method, target, fields) in [
            ("PUT", "/?q=2", &fields[..]),
            ("get", "/?q=2", &fields[..]),
            ("GET", "/?q=22", &fields[..]),
            ("GET", "/", &fields[..]),
            ("GET", "/?q=2", &fields[..2]),
            ("GET", "/?q=2", &fields[1..]),
        ] {
            assert!(!conditions.hold(&head(method, target, fields)), "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn parameters_are_compared_unescaped() {
        let has = |query: &str, condition: &Condition| has_parameter(Some(query.as_bytes()), condition);
        let name = exact("a b", "c&=");
        for right in ["a%20b=c%26=", "a+b=c%26%3d", "x&a%20%62=%63%26%3D&y"] {
            assert!(has(right, &name), "{right}");
        }
        for wrong in ["", "a b", "a%20b=c&=", "a%2=c%26=", "a%20b%=c%26="] {
            assert!(!has(wrong, &name), "{wrong}");
        }
        assert!(has("%zz=%", &exact("%zz", "%")), "what is no escape stays");
        assert!(has("debug", &condition("debug", Wanted::Present)));
        assert!(!has_parameter(None, &condition("debug", Wanted::Present)));
        let digits = condition("n", Wanted::Regex(Pattern::new("[0-9]+").expect("an expression")));
        assert!(has("n=x&n=12", &digits) && !has("n=12x", &digits));
    }
}
