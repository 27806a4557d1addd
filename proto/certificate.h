//  certificate.h -- a certificate chain and its key, from files; whether they can be shown.

#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#include <openssl/ssl.h>

//  A context that holds just this chain and key. NULL: *why says what is wrong with which file (the
//  caller frees it): unreadable, not PEM, not a pair, expired, not valid yet.
SSL_CTX *certificate_open (const char *cert, const char *key, char **why);

#endif
