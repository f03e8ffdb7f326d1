/* What libopus itself takes: encode and decode frames of 20 ms, nothing around it.
 *
 *   opus_loop BITRATE ROUNDS < speech.s16        (48 kHz mono, native byte order)
 *
 * The same settings as ice.media.opus (VoIP, no FEC, no DTX, complexity as it comes). Prints per round the CPU nanoseconds of one
 * encoded and of one decoded frame. The few declarations are written out, so that no header is needed, only the library.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct OpusEncoder OpusEncoder;
typedef struct OpusDecoder OpusDecoder;
OpusEncoder *opus_encoder_create(int32_t rate, int channels, int application, int *error);
OpusDecoder *opus_decoder_create(int32_t rate, int channels, int *error);
int opus_encoder_ctl(OpusEncoder *state, int request, ...);
int32_t opus_encode(OpusEncoder *state, const int16_t *pcm, int samples, unsigned char *data, int32_t room);
int opus_decode(OpusDecoder *state, const unsigned char *data, int32_t size, int16_t *pcm, int samples, int fec);
const char *opus_get_version_string(void);

enum { RATE = 48000, SAMPLES = 960, VOIP = 2048, SET_BITRATE = 4002, ROOM = 3900, MAX_FRAMES = 4096, MAX_DECODED = 5760 };

static double cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static int16_t speech[MAX_FRAMES * SAMPLES];
static unsigned char packets[MAX_FRAMES][ROOM];
static int32_t sizes[MAX_FRAMES];

int main(int argc, char **argv)
{
	int error = 0;
	if (argc != 3) {
		fprintf(stderr, "usage: opus_loop BITRATE ROUNDS < speech.s16\n");
		return 2;
	}
	size_t frames = fread(speech, SAMPLES * sizeof *speech, MAX_FRAMES, stdin);
	OpusEncoder *encoder = opus_encoder_create(RATE, 1, VOIP, &error);
	OpusDecoder *decoder = error ? NULL : opus_decoder_create(RATE, 1, &error);
	if (error || !frames || opus_encoder_ctl(encoder, SET_BITRATE, (int32_t)atoi(argv[1]))) {
		fprintf(stderr, "opus_loop: no encoder, no decoder, no speech or no such bit rate (%d)\n", error);
		return 1;
	}
	printf("%s\n", opus_get_version_string());
	for (int round = 0; round < atoi(argv[2]); round++) {
		int16_t heard[MAX_DECODED];
		double began = cpu_ns();
		for (size_t n = 0; n < frames; n++)
			if ((sizes[n] = opus_encode(encoder, speech + n * SAMPLES, SAMPLES, packets[n], ROOM)) < 0)
				return 1;
		double between = cpu_ns();
		for (size_t n = 0; n < frames; n++)
			if (opus_decode(decoder, packets[n], sizes[n], heard, MAX_DECODED, 0) != SAMPLES)
				return 1;
		printf("%.0f %.0f\n", (between - began) / frames, (cpu_ns() - between) / frames);
		fflush(stdout);
	}
	return 0;
}
