//! Values in whole pages of their own, straight from the system.
//!
//! Segments of slots live as long as connections do, or for ever. In the allocator's heap they would lie between what comes
//! and goes with a burst and pin its pages, and each would take a page more for the allocator's own note. Called by the
//! table alone; it counts nothing and has no limit of its own.

use std::alloc::{Layout, handle_alloc_error};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// What alignment a page is sure to have.
const PAGE_BYTES_MIN: usize = 4096;

/// An array of values that is mapped by itself.
pub(super) struct Pages<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: it owns its values as a boxed slice does, and gives out what `Deref` of a boxed slice gives out.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T> Pages<T> {
    /// `len` values, each made by `make`.
    pub(super) fn fill(len: usize, mut make: impl FnMut() -> T) -> Pages<T> {
        const { assert!(align_of::<T>() <= PAGE_BYTES_MIN) };
        let mut pages = Pages { start: map(layout::<T>(len)).cast(), len: 0 };
        for at in 0..len {
            // SAFETY: the mapping has room for `len` values.
            let place = unsafe { pages.start.add(at) };
            // SAFETY: the place lies inside the mapping, is aligned, and nobody else has it yet.
            unsafe { place.write(make()) };
        }
        pages.len = len;
        pages
    }

    /// The first value; whoever takes it must give it to [`Pages::from_raw`] some day.
    pub(super) fn into_raw(self) -> NonNull<T> {
        let start = self.start;
        std::mem::forget(self);
        start
    }

    /// The array again.
    ///
    /// # Safety
    ///
    /// `start` came from [`Pages::into_raw`] of an array of `len` values, and nobody uses it beside this.
    pub(super) unsafe fn from_raw(start: NonNull<T>, len: usize) -> Pages<T> {
        Pages { start, len }
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written from `start` on, and they live as long as `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        let values = NonNull::slice_from_raw_parts(self.start, self.len);
        // SAFETY: the values were written in `fill` and are dropped once, here.
        unsafe { ptr::drop_in_place(values.as_ptr()) };
        // SAFETY: mapped in `fill` with this size, and nothing refers to it any more.
        let unmapped = unsafe { munmap(self.start.cast(), layout::<T>(self.len).size()) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can be given back");
    }
}

fn layout<T>(len: usize) -> Layout {
    let layout = Layout::array::<T>(len).expect("a segment is far below isize::MAX");
    assert!(layout.size() > 0, "a mapping is never empty");
    layout
}

fn map(layout: Layout) -> NonNull<u8> {
    let bytes = NonZeroUsize::new(layout.size()).expect("checked where the layout is made");
    let (access, kind) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
    // SAFETY: a new mapping at a place that the system chooses touches nothing that exists.
    let mapped = unsafe { mmap_anonymous(None, bytes, access, kind) };
    mapped.unwrap_or_else(|_| handle_alloc_error(layout)).cast()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn values_are_made_once_and_dropped_once() {
        let owner = Rc::new(());
        let mut made = 0_usize;
        let pages = Pages::fill(1_000, || {
            made += 1;
            (made, Rc::clone(&owner))
        });
        assert!(pages.iter().map(|(number, _)| *number).eq(1..=1_000));
        assert_eq!(Rc::strong_count(&owner), 1_001);
        let raw = pages.into_raw();
        assert_eq!(Rc::strong_count(&owner), 1_001, "whoever took it owns the values");
        // SAFETY: it was taken just above, with as many values.
        drop(unsafe { Pages::from_raw(raw, 1_000) });
        assert_eq!(Rc::strong_count(&owner), 1);
    }

    #[test]
    fn an_array_begins_with_a_page_of_its_own() {
        let pages = Pages::fill(3, || 7_u64);
        assert_eq!((pages.as_ptr() as usize % PAGE_BYTES_MIN, &*pages), (0, &[7, 7, 7][..]));
    }
}
