// How fast a library with llama.cpp's interface reads prompts of some lengths and writes an answer: what `peer_speed.py` takes turns with.
//
//     cc -O2 -DNAMES=NAMES_2026 benches/peer_speed.c -I INCLUDE -L LIB -lllama -lggml -lggml-base -Wl,-rpath,LIB -o speed-llama-cpp
//     speed-llama-cpp FILE THREADS ANSWER PROMPT...
//
// Prints one JSON object. ik_llama.cpp and bitnet.cpp have the names of earlier years. What is timed ends with the last logits.

#include "llama.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NAMES_2024 1
#define NAMES_2025 2 // ik_llama.cpp: the new names of models, the old ones of the cache
#define NAMES_2026 3

#if NAMES == NAMES_2024
#define LOAD llama_load_model_from_file
#define START llama_new_context_with_model
#else
#define LOAD llama_model_load_from_file
#define START llama_init_from_model
#endif
#if NAMES == NAMES_2026
#define CLEAR(context) llama_memory_clear(llama_get_memory(context), true)
#else
#define CLEAR(context) llama_kv_cache_clear(context)
#endif

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

// Tokens at positions from `start` on, and the last one's logits.
static void run(struct llama_context *context, struct llama_batch *batch, int start, int count) {
    batch->n_tokens = count;
    for (int at = 0; at < count; at++) {
        batch->token[at] = (start + at) * 7 % 250;
        batch->pos[at] = start + at;
        batch->n_seq_id[at] = 1;
        batch->seq_id[at][0] = 0;
        batch->logits[at] = at + 1 == count;
    }
    if (llama_decode(context, *batch) != 0 || !llama_get_logits_ith(context, count - 1)) {
        fprintf(stderr, "llama_decode failed\n");
        exit(1);
    }
}

static int by_size(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

#define TIMES 3

static double median(double *values, int count) {
    qsort(values, count, sizeof *values, by_size);
    return values[count / 2];
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)level, (void)text, (void)data;
}

int main(int count, char **arguments) {
    if (count < 5) {
        fprintf(stderr, "needed: FILE THREADS ANSWER PROMPT...\n");
        return 2;
    }
    int threads = atoi(arguments[2]), answer = atoi(arguments[3]);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
#ifdef REPACK
    model_params.repack_tensors = true;
    model_params.use_mmap = false;
#endif
    struct llama_model *model = LOAD(arguments[1], model_params);
    if (!model) {
        fprintf(stderr, "%s cannot be loaded\n", arguments[1]);
        return 1;
    }
    printf("{");
    for (int at = 4; at < count; at++) {
        int prompt = atoi(arguments[at]);
        struct llama_context_params params = llama_context_default_params();
        params.n_ctx = prompt + answer;
        params.n_batch = params.n_ubatch = 512;
        params.n_threads = params.n_threads_batch = threads;
#if NAMES == NAMES_2025
        params.flash_attn = true;
#endif
        struct llama_context *context = START(model, params);
        struct llama_batch batch = llama_batch_init(512, 0, 1);
        run(context, &batch, 0, at == 4 ? prompt : 32); // Does not count: pages and buffers are touched for the first time.
        double prefill[TIMES], decode[TIMES];
        int times = at == 4 ? TIMES : 1; // Those of the first prompt are enough to know how far they are apart.
        for (int time = 0; time < times; time++) {
            CLEAR(context);
            double started = seconds();
            run(context, &batch, 0, prompt);
            prefill[time] = prompt / (seconds() - started);
            started = seconds();
            for (int token = 0; token < answer; token++)
                run(context, &batch, prompt + token, 1);
            decode[time] = answer / (seconds() - started);
        }
        printf("%s\"%d\": [%.3f, %.3f]", at == 4 ? "" : ", ", prompt, median(prefill, times), median(decode, times));
        llama_batch_free(batch);
        llama_free(context);
    }
    printf("}\n");
    return 0;
}
