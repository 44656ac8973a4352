//! The inbox of a slot: mail that waits for its connection.
//!
//! An intrusive stack that any thread pushes to and the holder of the slot empties in one swap; reversed, it keeps the
//! order of each sender (contract rule 4). It owns the nodes that lie in it and allocates none. Called by the table.

use std::ptr;

use crate::machine::Address;
use crate::sync::{AtomicPtr, Ordering};

/// One piece of mail on its way, or on its way back.
pub(crate) struct Node<M> {
    next: *mut Node<M>,
    /// Who gets it.
    pub(crate) to: Address,
    /// Who sent it.
    pub(crate) from: Address,
    /// True on the way back to the sender.
    pub(crate) bounced: bool,
    /// The mail; nothing in a node that is being reused.
    pub(crate) mail: Option<M>,
}

// SAFETY: a node is owned by one thread at a time: its `next` is only followed by the owner of the whole list.
unsafe impl<M: Send> Send for Node<M> {}

impl<M> Node<M> {
    /// An empty node.
    pub(crate) fn new() -> Box<Node<M>> {
        let nobody = Address::OUTSIDE;
        Box::new(Node { next: ptr::null_mut(), to: nobody, from: nobody, bounced: false, mail: None })
    }
}

/// The head of the stack.
pub(crate) struct Inbox<M>(AtomicPtr<Node<M>>);

impl<M> Inbox<M> {
    /// An empty inbox.
    pub(crate) fn new() -> Inbox<M> {
        Inbox(AtomicPtr::new(ptr::null_mut()))
    }

    /// Adds a node. True if the inbox was empty: then this caller must add the mail cause to the slot's word.
    #[must_use]
    pub(crate) fn push(&self, node: Box<Node<M>>) -> bool {
        let raw = Box::into_raw(node);
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            // SAFETY: `raw` came out of a box just above and is not shared before the exchange below succeeds.
            unsafe { (*raw).next = head };
            match self.0.compare_exchange_weak(head, raw, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return head.is_null(),
                Err(found) => head = found,
            }
        }
    }

    /// Takes everything, oldest first.
    pub(crate) fn take(&self) -> Letters<M> {
        if self.0.load(Ordering::Relaxed).is_null() {
            return Letters(ptr::null_mut());
        }
        let mut newest = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        let mut oldest = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: the swap made this thread the only owner of the list, whose nodes came out of boxes.
            let node = unsafe { &mut *newest };
            let next = node.next;
            node.next = oldest;
            (oldest, newest) = (newest, next);
        }
        Letters(oldest)
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Nodes that were taken out of an inbox, oldest first.
pub(crate) struct Letters<M>(*mut Node<M>);

impl<M> Iterator for Letters<M> {
    type Item = Box<Node<M>>;

    fn next(&mut self) -> Option<Box<Node<M>>> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the list belongs to `self` alone, and its nodes came out of boxes.
        let mut node = unsafe { Box::from_raw(self.0) };
        self.0 = std::mem::replace(&mut node.next, ptr::null_mut());
        Some(node)
    }
}

impl<M> Drop for Letters<M> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn node(mail: u32) -> Box<Node<u32>> {
        let mut node = Node::new();
        node.mail = Some(mail);
        node
    }

    #[test]
    fn mail_comes_out_in_the_order_of_its_sender() {
        let inbox = Inbox::new();
        assert!(inbox.push(node(1)));
        assert!(!inbox.push(node(2)));
        assert!(!inbox.push(node(3)));
        let order: Vec<_> = inbox.take().map(|node| node.mail).collect();
        assert_eq!(order, [Some(1), Some(2), Some(3)]);
        assert!(inbox.push(node(4)));
    }

    #[test]
    fn every_sender_keeps_its_order_across_threads() {
        let inbox = Inbox::new();
        let mut seen = [0u32; 4];
        let mut check = |node: Box<Node<u32>>| {
            let mail = node.mail.expect("a test sends mail");
            let sender = (mail >> 24) as usize;
            assert_eq!(mail & 0xff_ffff, seen[sender]);
            seen[sender] += 1;
        };
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..4u32)
                .map(|sender| {
                    let inbox = &inbox;
                    scope.spawn(move || {
                        for n in 0..500 {
                            let _ = inbox.push(node(sender << 24 | n));
                        }
                    })
                })
                .collect();
            while senders.iter().any(|sender| !sender.is_finished()) {
                inbox.take().for_each(&mut check);
            }
        });
        inbox.take().for_each(&mut check);
        assert_eq!(seen, [500; 4]);
    }

    #[test]
    fn what_was_not_read_is_dropped_with_the_inbox() {
        let mail = std::sync::Arc::new(());
        let inbox = Inbox::new();
        for _ in 0..3 {
            let mut node = Node::new();
            node.mail = Some(std::sync::Arc::clone(&mail));
            let _ = inbox.push(node);
        }
        let mut letters = inbox.take();
        drop(letters.next());
        drop(letters);
        drop(inbox);
        assert_eq!(std::sync::Arc::strong_count(&mail), 1);
    }
}
