/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What C cannot say: entry, BIOS calls, and the way to 4 GiB segments. See gallery.c */
        .code16
        .section .start, "ax"

/* Entry: 0000:7c00 from the CD. All segments start at 0; the stack ends below the program. */
        .globl  start
start:
        cli
        ljmp    $0, $1f
1:      xorl    %eax, %eax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7c00, %esp
        cld
        movl    $bss_start, %edi
        movl    $bss_end, %ecx
        subl    %edi, %ecx
        rep stosb
        calll   gallery

/* void call_bios(struct registers *r), r in EAX: INT 10h with those registers, and what it leaves
 * in them. ES is 0. */
        .globl  call_bios
call_bios:
        pushal
        pushl   %eax
        movl    4(%eax), %ebx
        movl    8(%eax), %ecx
        movl    12(%eax), %edx
        movl    16(%eax), %edi
        movl    (%eax), %eax
        sti
        int     $0x10
        cli
        cld
        popl    %esi
        movl    %eax, (%esi)
        movl    %ebx, 4(%esi)
        movl    %ecx, 8(%esi)
        movl    %edx, 12(%esi)
        movl    %edi, 16(%esi)
        popal
        retl

/* void flatten(void): gives the segments 4 GiB, which they keep when protected mode is left, until
 * a BIOS call takes them away. Interrupts are off. */
        .globl  flatten
flatten:
        pushl   %eax
        lgdtl   gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        jmp     1f
1:      movw    $8, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movl    %cr0, %eax
        andb    $0xfe, %al
        movl    %eax, %cr0
        ljmp    $0, $1f
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        popl    %eax
        retl

        .balign 8
gdt:    .quad   0, 0x00cf92000000ffff   /* data, base 0, 4 GiB, writable */
gdt_pointer:
        .word   15
        .long   gdt
