/* base/entropy_form: how the weights of a channel become the probabilities that an entropy is taken
 * of; the spellings are in config/choices.h.
 */
#ifndef LODE_BASE_ENTROPY_FORM_H
#define LODE_BASE_ENTROPY_FORM_H

typedef enum lode_entropy_form {
    LODE_ENTROPY_ABSOLUTE, /* p ∝ |w| */
    LODE_ENTROPY_SQUARE,   /* p ∝ w² */
    LODE_ENTROPY_SOFTMAX,  /* p = softmax(|w|) */
} lode_entropy_form_t;

#endif
