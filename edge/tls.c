//  tls.c -- what the edge shows and allows as a TLS server; new certificates without a restart.

#include <openssl/ssl.h>
#include <stdlib.h>

#include "edge/process.h"
#include "proto/certificate.h"

//  Certificates come from what was loaded last, of whatever kind: put into the context of
//  libwebsockets they would stay beside an older one with a key of another kind.
static int
tls_choose (SSL *ssl, void *arg)
{
    SSL_CTX *now = ((edge_t *) arg)->tls_shown;
    STACK_OF (X509) *chain = NULL;
    SSL_CTX_get0_chain_certs (now, &chain);
    SSL_certs_clear (ssl);
    return SSL_use_certificate (ssl, SSL_CTX_get0_certificate (now)) == 1
        && SSL_use_PrivateKey (ssl, SSL_CTX_get0_privatekey (now)) == 1
        && SSL_set1_chain (ssl, chain) == 1;
}

void
tls_prepare (edge_t *edge, void *context)
{
    SSL_CTX_set_min_proto_version (context, TLS1_2_VERSION);
    SSL_CTX_set_options (context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_cert_cb (context, tls_choose, edge);
}

bool
tls_load (edge_t *edge)
{
    const char *cert = opt_str (edge->options, "tls-cert");
    const char *key = opt_str (edge->options, "tls-key");
    char *why = NULL;
    SSL_CTX *good = certificate_open (cert, key ? key : cert, &why);
    if (good) {
        SSL_CTX_free (edge->tls_shown);
        edge->tls_shown = good;
        log_info ("certificate loaded", "cert", cert);
    } else {
        log_error (edge->tls_shown ? "certificate not reloaded, the old one stays"
                   : "certificate not loaded", "why", why);
        free (why);
    }
    return good != NULL;
}

void
tls_close (edge_t *edge)
{
    SSL_CTX_free (edge->tls_shown);
    edge->tls_shown = NULL;
}
