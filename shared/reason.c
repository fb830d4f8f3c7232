/* reason.c - the words and sentences for why a login was refused. */
#include "token.h"

static const struct {
    const char *word;
    const char *text;
} reasons[HLT_REASON_COUNT] = {
    [HLT_REASON_OK] = {"ok", "The token is valid."},
    [HLT_REASON_NO_TOKEN] = {"no_token",
                             "There is no token, or what was sent is not shaped like one; send a "
                             "signed JWT (three parts joined by dots)."},
    [HLT_REASON_TOO_LARGE] = {"too_large", "The token is larger than max_token_bytes; issue a "
                                           "smaller one or raise the limit."},
    [HLT_REASON_MALFORMED] = {"malformed",
                              "The token is not strict base64url or its JSON is not valid; check "
                              "the program that issues it."},
    [HLT_REASON_UNSUPPORTED] = {"unsupported",
                                "The token uses something Haltere does not support (crit, b64, "
                                "encryption, compression, nesting, another typ); issue a plain "
                                "signed JWT."},
    [HLT_REASON_ALG] = {"alg", "The token's alg is missing, unknown or not the one its key is "
                               "bound to; sign with the key's own algorithm."},
    [HLT_REASON_UNKNOWN_KEY] = {"unknown_key", "No loaded key belongs to this token; add the "
                                               "issuer's key to keys_file or check the kid."},
    [HLT_REASON_SIGNATURE] = {"signature", "The signature is not by the key the token names; it "
                                           "was forged, changed or signed with another key."},
    [HLT_REASON_EXPIRED] = {"expired", "The token has expired; fetch a new one (and check the "
                                       "clocks of issuer and broker)."},
    [HLT_REASON_NOT_YET] = {"not_yet", "The token's nbf or iat lies in the future; check the "
                                       "clocks of issuer and broker."},
    [HLT_REASON_CLAIM_MISSING] = {"claim_missing", "A required claim is missing; issue the token "
                                                   "with it."},
    [HLT_REASON_CLAIM_INVALID] = {"claim_invalid", "A claim has the wrong type or is out of range; "
                                                   "correct the program that issues it."},
    [HLT_REASON_ISSUER] = {"issuer", "The token's iss is not accepted here, or its key signs for "
                                     "another issuer; check issuer and keys_file."},
    [HLT_REASON_AUDIENCE] = {"audience", "The token is meant for somebody else; issue it with an "
                                         "aud this broker accepts."},
    [HLT_REASON_LIFETIME] = {"lifetime", "The token is valid for longer than max_token_lifetime; "
                                         "issue it with an earlier exp."},
    [HLT_REASON_SUBJECT] = {"subject", "The token's sub may not name a device; use 1 to 255 bytes "
                                       "without + # / or control characters (and without : "
                                       "where client_id_match is prefix)."},
    [HLT_REASON_BINDING] = {"binding", "The token is bound to a TLS client certificate that this "
                                       "connection does not show; connect with that certificate on "
                                       "a listener with require_certificate true."},
    [HLT_REASON_CLIENT_ID] = {"client_id", "The client id is not the token's sub; connect with "
                                           "the sub as client id."},
    [HLT_REASON_OLDER] = {"older",
                          "The session's token was issued later than this one; renew with a "
                          "newer token."},
    [HLT_REASON_USER_NAME] = {"user_name", "The user name is neither the token's sub nor \"jwt\"; "
                                           "use one of them or none."},
    [HLT_REASON_ID_RESERVED] = {"id_reserved", "This client id or user name belongs to a device "
                                               "that logs in with a token; use another."},
    [HLT_REASON_CLOCK_UNSET] = {"clock_unset", "The broker's clock is before Haltere's build date, "
                                               "so no token can be judged; set the clock."},
    [HLT_REASON_SESSIONS_FULL] = {"sessions_full",
                                  "max_sessions identities, max_devices devices or 16 sessions of "
                                  "one sub are in use; raise the limit or let old ones expire."},
    [HLT_REASON_BANNED] = {"banned",
                           "This address or device is banned for a while; `haltere ban list` "
                           "shows until when, `haltere ban remove` lifts it."},
    [HLT_REASON_REVOKED] = {"revoked", "The token was revoked; issue a new one."},
    [HLT_REASON_INTERNAL] = {"internal", "Haltere could not judge the token (memory or a library "
                                         "failed); see the broker's log."},
};

const char *hlt_reason_word(enum hlt_reason reason)
{
    return (unsigned)reason < HLT_REASON_COUNT ? reasons[reason].word : "internal";
}

const char *hlt_reason_text(enum hlt_reason reason)
{
    return reasons[(unsigned)reason < HLT_REASON_COUNT ? reason : HLT_REASON_INTERNAL].text;
}
