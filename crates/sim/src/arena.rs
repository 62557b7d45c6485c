//! Memory for worlds: lists of free blocks by size, one set for each thread, so that no history waits for another.
//!
//! A history allocates hundreds of thousands of small blocks and frees nearly all of them; the system's allocator took a
//! third of its time. Blocks of up to 4 KiB are cut from chunks that are never given back: the next history takes them.
//! Only the native program uses it (`main.rs`); tests and WebAssembly keep the allocators that people have.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

/// Sizes step by 16 bytes up to 1 KiB, then by 256 up to 4 KiB.
const FINE_MAX: usize = 1_024;
const COARSE_MAX: usize = 4_096;
const FINE: usize = FINE_MAX / 16;
const CLASSES: usize = FINE + 1 + (COARSE_MAX - FINE_MAX) / 256;
/// What is asked of the system at once.
const CHUNK: usize = 1 << 20;

struct Lists {
    /// The first free block of each class; a free block begins with the address of the next one.
    free: [Cell<*mut u8>; CLASSES],
    /// The rest of the newest chunk.
    next: Cell<*mut u8>,
    left: Cell<usize>,
}

thread_local! {
    static LISTS: Lists = const {
        Lists { free: [const { Cell::new(null_mut()) }; CLASSES], next: Cell::new(null_mut()), left: Cell::new(0) }
    };
}

/// The allocator; see above.
pub struct Arena;

/// Class and block size of a layout. `None`: it goes to the system.
fn class_of(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size();
    if layout.align() > 16 || size > COARSE_MAX {
        return None;
    }
    if size <= FINE_MAX {
        let class = size.div_ceil(16).max(1);
        return Some((class - 1, class * 16));
    }
    let steps = (size - FINE_MAX).div_ceil(256);
    Some((FINE - 1 + steps, FINE_MAX + steps * 256))
}

// A block is in one list or in one owner's hands. Blocks freed by another thread join that thread's lists, which is as good:
// chunks live as long as the program. `System` gives chunks aligned to 16, and all block sizes are multiples of 16.
#[allow(unsafe_code)] // An allocator cannot be written without.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((class, size)) = class_of(layout) else { return unsafe { System.alloc(layout) } };
        LISTS.with(|lists| {
            let head = lists.free[class].get();
            if !head.is_null() {
                lists.free[class].set(unsafe { head.cast::<*mut u8>().read() });
                return head;
            }
            if lists.left.get() < size {
                // What is left of the chunk before is less than a block and is left alone.
                let Ok(chunk) = Layout::from_size_align(CHUNK, 16) else { return null_mut() };
                let start = unsafe { System.alloc(chunk) };
                if start.is_null() {
                    return start;
                }
                lists.next.set(start);
                lists.left.set(CHUNK);
            }
            let block = lists.next.get();
            lists.next.set(unsafe { block.add(size) });
            lists.left.set(lists.left.get() - size);
            block
        })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((class, _)) = class_of(layout) else { return unsafe { System.dealloc(block, layout) } };
        LISTS.with(|lists| {
            unsafe { block.cast::<*mut u8>().write(lists.free[class].get()) };
            lists.free[class].set(block);
        });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return null_mut() };
        match (class_of(layout), class_of(wanted)) {
            // Still within its block.
            (Some(old), Some(new)) if old == new => block,
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (Some(_) | None, Some(_) | None) => {
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    let count = layout.size().min(size);
                    unsafe { std::ptr::copy_nonoverlapping(block, moved, count) };
                    unsafe { self.dealloc(block, layout) };
                }
                moved
            }
        }
    }
}
