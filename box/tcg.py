# SPDX-License-Identifier: GPL-2.0-or-later
"""Known errors of the software CPU (QEMU 7.2's TCG with SVM), told from failures of a device model.

At random, more often the busier the machine is, the first instruction after a VMRUN raises exceptions that it cannot
raise: Xen reports a triple fault whose RIP is either the host's own (the instruction after VMRUN, ffff82d0...), or
directly follows a guest instruction that has just been intercepted and completed (RDTSC, WRMSR, IN, ...), or is that of
an instruction that is begun anew: the first one of the FPU after another domain had it, where Xen intercepts #NM; or
is the first one of an interrupt's entry, where VMRUN was told to deliver that interrupt. Four idle PVH guests, which
have no device model at all, show the first two within two minutes.
"""

import functools
import glob
import lzma
import os
import re
import struct

TRIPLE = re.compile(r"d(\d+)v\d+ Triple fault[^\0]{0,3000}?RIP:\s*[0-9a-f]*:?\[?<?([0-9a-f]{8,16})")
SIGNS = (
    (re.compile(r"Inconsistency detected by ld\.so"), "ld.so assertion in a dom0 program"),
    (re.compile(r"(?m)^.*\b(?!hvm-dm|xen-qemu)[\w.-]+\[\d+\]: segfault at .*$"), "stray SIGSEGV of a dom0 program"),
)
# Instructions that Xen intercepts always (Linux replaces "rdtsc; nop; nop; nop" by "lfence; rdtsc" when it starts), and the
# accesses of Linux's ioread16() and its kin, (%rdi) and (%rsi), to a device's memory.
INTERCEPTED = re.compile(rb"(?:\x0f\x31(?:\x90\x90\x90)?|\x0f\x30|\x0f\xa2|\x0f\x01\xd9|[\xe4-\xe7].|[\xec-\xef]|\xf4|"
                         rb"[\x8a\x8b]\x07|[\x88\x89]\x3e)\Z", re.S)
# What Linux begins with after a switch: FNCLEX, FXSAVE and FXRSTOR (memory), XSAVE, XRSTOR and their kin.
FPU = re.compile(rb"[\xd8-\xdf]|\x48?\x0f(?:\xae[\x00-\xbf]|\xc7[\x18-\x2f\x58-\x6f\x98-\xaf])", re.S)
# Linux's entries for interrupts without an error code: CLAC (or the room for it), CLD, PUSH -1, CALL error_entry; for
# devices' vectors: PUSH the vector, JMP, on a boundary of eight bytes.
ENTRY = re.compile(rb"(?:\x0f\x01\xca|\x90\x90\x90)\xfc\x6a\xff\xe8|\x6a.\xe9", re.S)


@functools.lru_cache(maxsize=None)
def _kernel(folder):
    """The uncompressed kernel (an ELF file) of a folder that holds boot/vmlinuz-*, b"" where there is none."""
    for path in glob.glob(os.path.join(folder, "boot", "vmlinuz-*")):
        with open(path, "rb") as f:
            data = f.read()
        start = data.find(b"\xfd7zXZ\0")
        if start >= 0:
            return lzma.LZMADecompressor().decompress(data[start:])
    return b""


def _code(kernel, start, count):
    """Bytes of the kernel's code at an address, as it is linked (the guests of the tests run with nokaslr)."""
    if kernel[:4] != b"\x7fELF":
        return b""
    at, = struct.unpack_from("<Q", kernel, 32)
    number, = struct.unpack_from("<H", kernel, 56)
    for i in range(number):
        kind, _, offset, virtual, _, size = struct.unpack_from("<IIQQQQ", kernel, at + 56 * i)
        if kind == 1 and virtual <= start and start + count <= virtual + size:
            start += offset - virtual
            return kernel[start:start + count]
    return b""


def triple_fault(console, domid):
    """The RIP of a triple fault of this domain in Xen's console, or None."""
    for found in TRIPLE.finditer(console):
        if int(found[1]) == domid:
            return int(found[2], 16)
    return None


def explain(console, kernel_folder):
    """A text when Xen's console shows exactly one of the known errors, else None.

    kernel_folder: where the guests' kernel is, see box/mkkernel.
    """
    for found in TRIPLE.finditer(console):
        rip = int(found[2], 16)
        if rip >> 32 == 0xffff82d0:
            return f"guest triple fault at Xen's address {rip:x}"
        if INTERCEPTED.search(_code(_kernel(kernel_folder), rip - 5, 5)):
            return f"guest triple fault at {rip:x}, right after an intercepted instruction was completed"
        if FPU.match(_code(_kernel(kernel_folder), rip, 4)):
            return f"guest triple fault at {rip:x}, an FPU instruction that was begun anew"
        if rip % 8 == 0 and ENTRY.match(_code(_kernel(kernel_folder), rip, 7)):
            return f"guest triple fault at {rip:x}, the first instruction of an interrupt that was delivered"
    for pattern, meaning in SIGNS:
        if pattern.search(console):
            return meaning
    return None
