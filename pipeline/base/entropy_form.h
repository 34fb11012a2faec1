/* base/entropy_form: how weights become the shares whose entropy is taken; see score/entropy.h. */
#ifndef LODE_BASE_ENTROPY_FORM_H
#define LODE_BASE_ENTROPY_FORM_H

typedef enum lode_entropy_form {
    LODE_ENTROPY_ABSOLUTE,
    LODE_ENTROPY_SQUARE,
    LODE_ENTROPY_SOFTMAX,
} lode_entropy_form_t;

#endif
