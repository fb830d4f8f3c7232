/* judging.h - a key as Haltere loads it and a token as it judges it, under the plugin's defaults.
 * Header only: every test is its own program. */
#ifndef HLT_TEST_JUDGING_H
#define HLT_TEST_JUDGING_H

#include <criterion/criterion.h>

#include "../../shared/token.h"
#include "signing.h"

#define NOW 1800000000
#define GOOD "\"sub\":\"dev1\",\"iss\":\"https://id\",\"aud\":\"broker\",\"exp\":1800000600"

static inline struct hlt_keyset *load(const char *jwk, char *problem, size_t room)
{
    struct hlt_problems problems = {0};
    struct hlt_keyset *set = NULL;
    char *path = file_with(jwk, strlen(jwk), 0600);
    struct hlt_key_source source = {.path = path};

    hlt_keyset_load(&set, &source, 1, &problems);
    problem[0] = '\0';
    if (problems.count > 0) {
        hlt_problem_format(&problems, 0, problem, room);
    }
    hlt_problems_free(&problems);
    file_remove(path);
    return set;
}

static inline struct hlt_keyset *keys_from(const char *jwk)
{
    char problem[1024];
    struct hlt_keyset *set = load(jwk, problem, sizeof(problem));

    cr_assert(set != NULL, "%s", problem);
    return set;
}

static inline enum hlt_reason judge(const struct hlt_keyset *keys, const char *token)
{
    static const char *const issuers[] = {"https://id"}, *const audiences[] = {"broker"};
    const struct hlt_token_rules rules = {.issuers = issuers,
                                          .issuer_count = 1,
                                          .audiences = audiences,
                                          .audience_count = 1,
                                          .leeway_s = 30,
                                          .max_bytes = HLT_TOKEN_MAX_DEFAULT,
                                          .require_exp = true,
                                          .require_iss = true,
                                          .require_aud = true};
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    struct hlt_claims *claims = NULL;
    enum hlt_reason reason =
        hlt_token_verify(verifier, keys, &rules, token, strlen(token), NOW, &claims, NULL);

    cr_expect((reason == HLT_REASON_OK) == (claims != NULL));
    hlt_claims_free(claims);
    hlt_verifier_free(verifier);
    return reason;
}

#define EXPECT(keys, token, want)                                                                  \
    do {                                                                                           \
        enum hlt_reason got_ = judge(keys, token);                                                 \
        cr_expect(got_ == (want), "got %s, want %s", hlt_reason_word(got_),                        \
                  hlt_reason_word(want));                                                          \
    } while (0)

#endif
