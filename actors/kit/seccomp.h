//  seccomp.h -- the system calls that no cell needs.

#ifndef BOX_SECCOMP_H
#define BOX_SECCOMP_H

//  A descriptor (close-on-exec) with the compiled filter, for bwrap --seccomp. -1 when the library
//  fails.
int seccomp_program (void);

#endif
