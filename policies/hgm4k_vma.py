from poisonsim.policy import BASE, SPLIT_VM_TO, UNMAP, Policy, on


class Hgm4KVma(Policy):
    """At the first error map the whole VM with base pages, then leave out each poisoned one.

    The simplest high-granularity scheme of the thread: no per-entry sizes, one size for the whole mapping.
    Status: proposed.
    Needs: HGM without entries of their own size; no patch was posted.
    Source: M. Kravetz in the HGM v1 thread, reply to lore.kernel.org 20230105101844.1893104-1-jthoughton@google.com.
    """

    rules = [on(">BASE").do(SPLIT_VM_TO(BASE)), on(BASE).do(UNMAP)]
