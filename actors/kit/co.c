//  co.c -- stackful coroutines: a switch of stacks in a few instructions, stacks with a guard page,
//  re-used. What sanitizers and valgrind must be told about stacks is told here and nowhere else.

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "co.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(from, to) 0
#define VALGRIND_STACK_DEREGISTER(id) (void) (id)
#endif

#if defined (__SANITIZE_ADDRESS__)
#define CO_ASAN 1
#elif defined (__SANITIZE_THREAD__)
#define CO_TSAN 1
#elif defined (__has_feature)
#if __has_feature (address_sanitizer)
#define CO_ASAN 1
#elif __has_feature (thread_sanitizer)
#define CO_TSAN 1
#endif
#endif

#ifdef CO_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CO_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if defined (CO_ASAN) || defined (CO_TSAN)
#define STACK_SIZE (256 * 1024)     //  instrumented frames are several times as large
#else
#define STACK_SIZE (64 * 1024)
#endif
#define GUARD_SIZE 4096
#define SPARE_MAX 256               //  stacks kept for re-use

#if !defined (CO_UCONTEXT) && !defined (__x86_64__) && !defined (__aarch64__)
#define CO_UCONTEXT 1
#endif
#ifdef CO_UCONTEXT
#include <ucontext.h>
typedef ucontext_t place_t;
#else
typedef void *place_t;              //  the stack pointer; registers lie on the stack
#endif

struct co {
    place_t place;                  //  where it goes on
    place_t *back;                  //  who started or resumed it
    co_t *before;                   //  that was running then; NULL: the loop's own stack
    co_t *next;                     //  in the list of woken or of spare ones
    co_fn *fn;
    void *arg;
    uint8_t *memory;  //  guard page and stack; this struct lies at the stack's upper end
    void *fake;                     //  AddressSanitizer's second stack
    void *fiber;                    //  what ThreadSanitizer knows of it
    unsigned valgrind;
    bool woken, ended;
};

static co_t *s_self;
static co_t *s_spare;
static size_t s_spares, s_alive, s_limit = 4096;
static co_t *s_woken, **s_woken_end = &s_woken;
#ifdef CO_ASAN
static const void *s_loop_bottom;
static size_t s_loop_size;
#endif
#ifdef CO_TSAN
static void *s_loop_fiber;
#endif

#ifndef CO_UCONTEXT
void co_switch_ (void **save, void *load);
#endif

#if defined (CO_UCONTEXT)
static void
s_switch (place_t *from, place_t *to)
{
    swapcontext (from, to);
}
#elif defined (__x86_64__)
__asm__ (".text\n.globl co_switch_\n.type co_switch_, @function\nco_switch_:\n"
         "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
         "subq $8, %rsp\nstmxcsr (%rsp)\nfnstcw 4(%rsp)\n"
         "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
         "ldmxcsr (%rsp)\nfldcw 4(%rsp)\naddq $8, %rsp\n"
         "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
         ".size co_switch_, .-co_switch_\n");
#else
__asm__ (".text\n.globl co_switch_\n.type co_switch_, %function\nco_switch_:\n"
         "sub sp, sp, #160\n"
         "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\n"
         "stp x25, x26, [sp, #48]\nstp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
         "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\n"
         "stp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
         "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
         "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\n"
         "ldp x25, x26, [sp, #48]\nldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
         "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\n"
         "ldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
         "add sp, sp, #160\nret\n"
         ".size co_switch_, .-co_switch_\n");
#endif

#ifndef CO_UCONTEXT
static void
s_switch (place_t *from, place_t *to)
{
    co_switch_ (from, *to);
}
#endif

//  The same switch, announced to the sanitizers. `to` NULL is the loop's stack; a coroutine that
//  ends leaves no fake stack.
static void
s_go (co_t *from, place_t *from_place, co_t *to, place_t *to_place)
{
#ifdef CO_ASAN
    static void *loop_fake;
    void **fake = from ? (from->ended ? NULL : &from->fake) : &loop_fake;
    if (to)
        __sanitizer_start_switch_fiber (fake, to->memory + GUARD_SIZE, STACK_SIZE);
    else
        __sanitizer_start_switch_fiber (fake, s_loop_bottom, s_loop_size);
    s_self = to;
    s_switch (from_place, to_place);
    __sanitizer_finish_switch_fiber (from ? from->fake : loop_fake, NULL, NULL);
#else
    (void) from;
#ifdef CO_TSAN
    if (!s_loop_fiber)
        s_loop_fiber = __tsan_get_current_fiber ();
    __tsan_switch_to_fiber (to ? to->fiber : s_loop_fiber, 0);
#endif
    s_self = to;
    s_switch (from_place, to_place);
#endif
}

static void
s_entry (void)
{
    co_t *self = s_self;
#ifdef CO_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber (NULL, &bottom, &size);
    if (!self->before && !s_loop_bottom) {
        s_loop_bottom = bottom;
        s_loop_size = size;
    }
#endif
    self->fn (self->arg);
    self->ended = true;
    s_go (self, &self->place, self->before, self->back);
    abort ();                       //  nobody resumes what has ended
}

static void
s_prepare (co_t *self)
{
#if defined (CO_UCONTEXT)
    getcontext (&self->place);
    self->place.uc_stack.ss_sp = self->memory + GUARD_SIZE;
    self->place.uc_stack.ss_size = (size_t) ((uint8_t *) self - self->memory - GUARD_SIZE);
    makecontext (&self->place, s_entry, 0);
#elif defined (__x86_64__)
    //  As co_switch_ left it: control words, six registers, where to return to; and the alignment
    //  that a call gives.
    uint64_t *top = (uint64_t *) ((uintptr_t) self & ~(uintptr_t) 15);
    uint64_t *sp = top - 9;
    memset (sp, 0, 9 * sizeof *sp);
    uint32_t control [2] = { 0 };
    __asm__ ("stmxcsr %0\nfnstcw %1" : "=m" (control [0]), "=m" (control [1]));
    memcpy (sp, control, sizeof control);
    sp [7] = (uint64_t) (uintptr_t) s_entry;
    self->place = sp;
#else
    uint64_t *sp = (uint64_t *) ((uintptr_t) self & ~(uintptr_t) 15) - 20;
    memset (sp, 0, 20 * sizeof *sp);
    sp [11] = (uint64_t) (uintptr_t) s_entry;
    self->place = sp;
#endif
}

static co_t *
s_new (void)
{
    co_t *self = s_spare;
    if (self) {
        s_spare = self->next;
        s_spares--;
        return self;
    }
    size_t size = GUARD_SIZE + STACK_SIZE;
    uint8_t *memory = mmap (NULL, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (mprotect (memory, GUARD_SIZE, PROT_NONE) != 0) {
        munmap (memory, size);
        return NULL;
    }
    self = (co_t *) (memory + size - ((sizeof (co_t) + 63) & ~(size_t) 63));
    self->memory = memory;
    self->valgrind = VALGRIND_STACK_REGISTER (memory + GUARD_SIZE, memory + size);
    return self;
}

static void
s_unmap (co_t *self)
{
    VALGRIND_STACK_DEREGISTER (self->valgrind);
    munmap (self->memory, GUARD_SIZE + STACK_SIZE);
}

static void
s_free (co_t *self)
{
    s_alive--;
#ifdef CO_ASAN
    //  It never returned from its outermost frames, so their red zones are still marked.
    ASAN_UNPOISON_MEMORY_REGION (self->memory + GUARD_SIZE, STACK_SIZE);
#endif
#ifdef CO_TSAN
    __tsan_destroy_fiber (self->fiber);
#endif
    if (s_spares >= SPARE_MAX) {
        s_unmap (self);
        return;
    }
    self->next = s_spare;
    s_spare = self;
    s_spares++;
}

static void
s_enter (co_t *self)
{
    place_t here;
    co_t *before = s_self;
    self->before = before;
    self->back = before ? &before->place : &here;
    s_go (before, self->back, self, &self->place);
    if (self->ended)
        s_free (self);
}

//  What was woken meanwhile goes on from the loop's stack, one after another.
static void
s_enter_woken (void)
{
    while (!s_self && s_woken) {
        co_t *next = s_woken;
        s_woken = next->next;
        if (!s_woken)
            s_woken_end = &s_woken;
        next->woken = false;
        s_enter (next);
    }
}

co_t *
co_start (co_fn *fn, void *arg)
{
    if (s_alive >= s_limit)
        return NULL;
    co_t *self = s_new ();
    if (!self)
        return NULL;
    s_alive++;
    self->fn = fn;
    self->arg = arg;
    self->fake = NULL;
    self->woken = self->ended = false;
#ifdef CO_TSAN
    self->fiber = __tsan_create_fiber (0);
#endif
    s_prepare (self);
    s_enter (self);
    s_enter_woken ();
    return self;
}

co_t *
co_self (void)
{
    return s_self;
}

CO void
co_suspend (void)
{
    co_t *self = s_self;
    assert (self);
    s_go (self, &self->place, self->before, self->back);
}

void
co_resume (co_t *co)
{
    assert (!s_self && !co->woken && !co->ended);
    s_enter (co);
    s_enter_woken ();
}

void
co_wake (co_t *co)
{
    if (!s_self) {
        co_resume (co);
        return;
    }
    if (co->woken)
        return;
    co->woken = true;
    co->next = NULL;
    *s_woken_end = co;
    s_woken_end = &co->next;
}

size_t
co_alive (void)
{
    return s_alive;
}

void
co_limit (size_t limit)
{
    s_limit = limit;
}

void
co_drain (void)
{
    while (s_spare) {
        co_t *next = s_spare->next;
        s_unmap (s_spare);
        s_spare = next;
    }
    s_spares = 0;
}
