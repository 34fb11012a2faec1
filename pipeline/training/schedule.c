#include "training/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

double lode_rate_at(const lode_rate_t *rate, int64_t step) {
    if (step <= rate->warmup && rate->warmup > 0)
        return rate->most * ((double)step / (double)rate->warmup);
    const int64_t falling = rate->steps - rate->warmup;
    const double x = falling > 0 ? (double)(step - rate->warmup) / (double)falling : 0;
    switch (rate->decay) {
    case LODE_DECAY_COSINE:
        return rate->most * (rate->final + (1 - rate->final) * (1 + cos(pi * x)) / 2);
    case LODE_DECAY_LINEAR:
        return rate->most * (rate->final + (1 - rate->final) * (1 - x));
    case LODE_DECAY_CONSTANT:
        break;
    }
    return rate->most;
}

double lode_entropy_weight_at(double weight, lode_entropy_schedule_t schedule, int64_t steps,
                              int64_t step) {
    const double x = (double)step / (double)steps;
    switch (schedule) {
    case LODE_SCHEDULE_LINEAR:
        return weight * x;
    case LODE_SCHEDULE_COSINE:
        return weight * ((1 + cos(pi * x)) / 2);
    case LODE_SCHEDULE_CONSTANT:
        break;
    }
    return weight;
}
