# The guest that tries an accelerator: one boot sector, which does what kernels do first and what a
# host that only half virtualises fails at: long mode with paging, and cmpxchg16b. Then it writes one
# line to the first serial port and ends QEMU by its isa-debug-exit device at port 0xf4.
# The bytes stand in probe_guest.rs; its test assembles this file and compares:
#   as --64 -o probe.o probe_guest.S
#   ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o probe.bin probe.o
.code16
.globl _start
_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    # page tables: 0x1000 PML4 -> 0x2000 PDPT -> 0x3000 PD with one 2 MiB page
    cld
    mov $0x1000, %di
    mov $0x1800, %cx
    rep stosw
    movw $0x2003, 0x1000
    movw $0x3003, 0x2000
    movw $0x0083, 0x3000
    mov $0x1000, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %ax           # PAE
    mov %eax, %cr4
    mov $0xc0000080, %ecx   # EFER
    rdmsr
    or $0x100, %ax          # LME
    wrmsr
    lgdt gdt_pointer
    mov %cr0, %eax
    or $0x80000001, %eax    # paging, protection
    mov %eax, %cr0
    ljmp $8, $long
.code64
long:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x7c00, %esp
    # compare and exchange of 16 bytes: zeroes at 0x5000 become 1, 0
    xor %eax, %eax
    xor %edx, %edx
    xor %ecx, %ecx
    mov $0x5000, %edi
    mov %rax, (%rdi)
    mov %rax, 8(%rdi)
    lea 1(%rax), %ebx
    lock cmpxchg16b (%rdi)
    jne fail
    cmpq $1, (%rdi)
    jne fail
    mov $ok, %esi
    mov $0x3f8, %edx
1:  lodsb
    test %al, %al
    jz fail
    outb %al, %dx
    jmp 1b
fail:
    xor %eax, %eax
    outb %al, $0xf4
2:  hlt
    jmp 2b
ok: .asciz "IMAGEFACTORY-PROBE-OK\n"
.balign 8
gdt:
    .quad 0
    .quad 0x00af9a000000ffff
    .quad 0x00cf92000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
.org 510
    .word 0xaa55
