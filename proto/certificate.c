//  certificate.c -- a certificate chain and its key, from files.

#include "proto/certificate.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <time.h>
#include <unistd.h>

#include "proto/text.h"

//  Nobody sits at a terminal to be asked for it.
static int
s_no_passphrase (char *to, int size, int writing, void *arg)
{
    (void) to, (void) size, (void) writing, (void) arg;
    return -1;
}

static char *
s_when (const ASN1_TIME *at)
{
    char text [32] = "?";
    struct tm parts;
    if (ASN1_TIME_to_tm (at, &parts) == 1)
        strftime (text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return xstrdup (text);
}

static char *
s_wrong_time (const char *cert, X509 *x509)
{
    const char *what = NULL;
    const ASN1_TIME *at = X509_get0_notAfter (x509);
    if (X509_cmp_current_time (at) <= 0)
        what = "expired on";
    else if (X509_cmp_current_time (at = X509_get0_notBefore (x509)) > 0)
        what = "is not valid before";
    if (!what)
        return NULL;
    char *when = s_when (at), *why = text_format ("certificate %s %s %s", cert, what, when);
    free (when);
    return why;
}

//  What is wrong once the file could be opened at all; NULL: nothing.
static char *
s_load (SSL_CTX *into, const char *cert, const char *key)
{
    if (SSL_CTX_use_certificate_chain_file (into, cert) != 1)
        return text_format ("certificate %s: %s", cert,
                            ERR_reason_error_string (ERR_peek_error ()));
    if (SSL_CTX_use_PrivateKey_file (into, key, SSL_FILETYPE_PEM) != 1) {
        unsigned long error = ERR_peek_error ();
        if (ERR_GET_LIB (error) == ERR_LIB_X509)
            return text_format ("key %s does not belong to certificate %s", key, cert);
        return text_format ("key %s: %s", key, ERR_reason_error_string (error));
    }
    return s_wrong_time (cert, SSL_CTX_get0_certificate (into));
}

SSL_CTX *
certificate_open (const char *cert, const char *key, char **why)
{
    const char *unreadable = access (cert, R_OK) != 0 ? cert : access (key, R_OK) != 0 ? key : NULL;
    if (unreadable) {
        *why = text_format ("%s: %s", unreadable, strerror (errno));
        return NULL;
    }
    SSL_CTX *self = SSL_CTX_new (TLS_server_method ());
    SSL_CTX_set_default_passwd_cb (self, s_no_passphrase);
    ERR_clear_error ();
    *why = s_load (self, cert, key);
    ERR_clear_error ();
    if (*why) {
        SSL_CTX_free (self);
        return NULL;
    }
    return self;
}
