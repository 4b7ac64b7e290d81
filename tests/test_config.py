"""Configs: VideoTag's keys and old spellings in, typed sections out, every mistake named."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from videotag.config import load_config
from videotag.config_file import last_values, parse_overrides
from videotag.errors import ConfigError, UnknownNameError, error_text
from videotag.models import load_models
from videotag.registry import list_models
from videotag.sections import InferSection, Key, VideoInferSection, VideoSplitSection
from videotag.train_section import FeatureTrainSection, TrainSection, VideoTrainSection

load_models()

# VideoTag's attention_lstm.yaml as its users have it, and the fluid TSN's spellings below.
OLD_TAGGER = """
MODEL:
  name: "AttentionLSTM"
  dataset: "YouTube-8M"
  bone_nework: None
  drop_rate: 0.5
  feature_names: ['rgb']
  feature_dims: [2048]
  embedding_size: 1024
  lstm_size: 512
  num_classes: 3396
  topk: 20
TRAIN:
  epoch: 10
  learning_rate: 0.000125
  decay_epochs: [5]
  decay_gamma: 0.1
  weight_decay: 0.0008
  num_samples: 5000000
  pretrain_base: None
  batch_size: 128
  use_gpu: True
  num_gpus: 1
  filelist: "data/dataset/attention_lstm/train.list"
VALID:
  batch_size: 128
  filelist: "data/dataset/attention_lstm/val.list"
"""
OLD_TSN = """
MODEL:
  name: "TSN"
  format: "video"
  num_classes: 400
  seglen: 1
  image_mean: [0.485, 0.456, 0.406]
  image_std: [0.229, 0.224, 0.225]
  num_layers: 101
  topk: 5
TRAIN:
  seg_num: 3
  epoch: 45
  short_size: 256
  target_size: 224
  num_reader_threads: 12
  buf_size: 1024
  batch_size: 32
  use_gpu: True
  num_gpus: 1
  filelist: "./data/dataset/tsn/train.list"
  learning_rate: 0.00125
  learning_rate_decay: 0.1
  l2_weight_decay: 1e-4
  momentum: 0.9
  total_videos: 224684
INFER:
  seg_num: 300
  batch_size: 1
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "c.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_videotags_own_tagger_file_is_read(write):
    config = load_config(write(OLD_TAGGER))
    assert config.entry.name == "AttentionLSTM"
    assert config.train.pretrain is None, "the text None is no value"
    assert config.train.use_gpu is True
    assert (config.train.num_samples, config.train.num_gpus) == (5_000_000, 1)


def test_videotags_own_tsn_file_is_read_with_its_old_spellings(write):
    config = load_config(write(OLD_TSN), model_name="tsn")
    assert config.model.backbone == "resnet101"
    assert config.train.decay_gamma == 0.1
    assert config.train.weight_decay == 1e-4, "PyYAML reads 1e-4 as text"
    assert config.train.num_samples == 224684
    assert (config.infer.seg_num, config.infer.short_size) == (300, 256)


@pytest.mark.parametrize(
    ("cores", "infer", "at_once", "ahead"),
    [
        (7, "{}", 1, 3),  # 1,024 frames hold three videos of 300
        (2, "{batch_size: 128}", 3, 3),  # an old batch size does not fill the memory
        (2, "{batch_size: 2, seg_num: 16, buf_size: 64}", 2, 4),
        (64, "{seg_num: 5000}", 1, 1),
        (8, "{}", 2, 3),  # a video for every four cores
        (8, "{batch_size: 3}", 3, 3),
    ],
)
def test_frames_that_wait_are_bounded_whatever_the_batch_size(
    write, monkeypatch, cores, infer, at_once, ahead
):
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    split = load_config(write(f"MODEL: {{name: TSN}}\nINFER: {infer}\n")).infer
    assert (split.videos_at_once, split.videos_ahead) == (at_once, ahead)


def test_the_resolved_config_reads_back_to_an_equal_one(write):
    first = load_config(write(OLD_TAGGER))
    second = load_config(write(first.to_yaml()))
    assert second == first


def test_a_folder_in_place_of_a_config_is_named_as_one(tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path}: a folder, expected a config file"):
        load_config(tmp_path)


def test_num_layers_and_another_backbone_disagree(write):
    text = "MODEL: {{name: TSN, num_layers: {}, backbone: {}}}\n"
    message = "MODEL: num_layers 50 and backbone efficientnet_lite0 disagree; keep one of them"
    with pytest.raises(ConfigError, match=message):
        load_config(write(text.format(50, "efficientnet_lite0")))
    assert load_config(write(text.format(50, "ResNet50"))).model.backbone == "ResNet50"


@pytest.mark.parametrize("key", ["num_layers: 50", "backbone: efficientnet_lite0", "num_classes: 3"])
def test_the_resolved_config_of_a_tsn_reads_back_to_an_equal_one(write, key):
    first = load_config(write(f"MODEL: {{name: TSN, {key}}}\n"))
    assert load_config(write(first.to_yaml())) == first


def test_flags_win_over_set_which_wins_over_the_file(write):
    overrides = [*parse_overrides(["TRAIN.epoch=7", "train.decay_epochs=[2, 4]"]), ("TRAIN.epoch", 9)]
    config = load_config(write(OLD_TAGGER), overrides=overrides)
    assert config.train.epoch == 9
    assert config.train.decay_epochs == [2, 4]


def test_the_last_value_of_a_key_is_read_as_yaml_and_under_its_current_name():
    texts = [
        "model.label_file=a.txt",
        "MODEL.label_file=null",
        "TRAIN.l2_weight_decay=0.1",
        "INPUTS.x.reader=text",
    ]
    assert last_values([*parse_overrides(texts), ("TRAIN.epoch", 9)]) == {
        "MODEL.label_file": None,
        "TRAIN.weight_decay": 0.1,
        "INPUTS.x": {"reader": "text"},
        "TRAIN.epoch": 9,
    }
    assert last_values([("MODEL.label_file", "None")]) == {"MODEL.label_file": None}


def test_all_problems_are_reported_together_with_their_paths(write):
    text = "MODEL: {name: TSN, num_clases: 3, topk: 0}\nTRAIN: {learning_rat: 1}\nINFER: {seg_num: many}\n"
    with pytest.raises(ConfigError) as caught:
        load_config(write(text))
    lines = str(caught.value).split("\n")
    assert len(lines) == 4
    assert "MODEL.num_clases: unknown key; did you mean 'num_classes'?" in lines[0] + lines[1]
    assert "MODEL.topk: 0: input should be greater than or equal to 1" in lines[0] + lines[1]
    assert "TRAIN.learning_rat: unknown key; did you mean 'learning_rate'?" in lines[2]
    assert "INFER.seg_num: 'many': input should be a valid integer" in lines[3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no sections"),
        ("[1, 2]", "no sections"),
        ("MODEL: [", "not a YAML file"),
        ("MODEL: !!python/object/apply:os.getcwd []", "not a YAML file"),
        ("MODEL: 3", "MODEL: 3 is not a section"),
        ("MODLE: {name: TSN}", "MODLE: unknown section; there are: MODEL, INPUTS, TRAIN"),
        ("TRAIN: {epoch: 1}", "MODEL.name is missing"),
        ("MODEL: {name: resnet50}", "resnet50 is a backbone"),
        (
            "MODEL: {name: TSN, backbone: resnet152}",
            "resnet152 is not a backbone; there are: efficientnet_lite0",
        ),
        ("MODEL: {name: TSN, seglen: 5}", "MODEL.seglen: 5"),
        ("MODEL: {name: TSN}\nINFER: {target_size: 300}", "target_size 300 is larger than short_size 256"),
        ("MODEL: {name: AttentionLSTM}", "MODEL.num_classes: missing"),
        ("MODEL: {name: AttentionLSTM, num_classes: 3, feature_names: [rgb, audio]}", "disagree"),
        ("MODEL: {name: TSN}\nTRAIN: {total_videos: 3, num_samples: 4}", "the same as num_samples"),
    ],
)
def test_a_wrong_file_is_one_error_that_says_what(write, text, message):
    with pytest.raises(ConfigError, match=r"c\.yaml.*") as caught:
        load_config(write(text))
    assert message in str(caught.value)


PLAIN = "MODEL: {name: MeanPool, num_classes: 3}\n"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{}", "INPUTS: missing, and MeanPool has no default"),
        ("[rgb]", "INPUTS: ['rgb'] is not a section"),
        (
            "{rgb: features}",
            "INPUTS.rgb: 'features' has no reader; write reader: NAME, one of features, frames",
        ),
        ("{rgb: {width: 3}}", "INPUTS.rgb: {'width': 3} has no reader; write reader: NAME"),
        ("{rgb: {reader: [features]}}", "INPUTS.rgb: {'reader': ['features']} has no reader"),
        ("{rgb: {reader: features}}", "INPUTS.rgb.width: missing; it has no default"),
        ("{rgb: {reader: features, width: x}}", "INPUTS.rgb.width: 'x': input should be a valid integer"),
        ("{rgb: {reader: features, widht: 3}}", "INPUTS.rgb.widht: unknown key; did you mean 'width'?"),
    ],
)
def test_a_wrong_entry_of_inputs_says_what(write, inputs, message):
    with pytest.raises(ConfigError, match=r"c\.yaml: INPUTS") as caught:
        load_config(write(f"{PLAIN}INPUTS: {inputs}"))
    assert message in str(caught.value)


def test_an_unknown_reader_lists_the_nearest_and_all(write):
    with pytest.raises(UnknownNameError, match=r"featurs: unknown reader; did you mean 'features'\?.*frames"):
        load_config(write(PLAIN + "INPUTS: {rgb: {reader: featurs, width: 3}}"))


def test_inputs_that_follow_from_model_can_be_overridden_in_part(write):
    path = write("MODEL: {name: MeanPool, num_classes: 3, feature_names: [rgb, audio], feature_dims: [6, 3]}")
    config = load_config(path, overrides=[("MODEL.feature_dims", "[5, 3]"), ("INPUTS.audio.field", "sound")])
    assert {name: (o.width, o.field) for name, o in config.inputs.items()} == {
        "rgb": (5, None),
        "audio": (3, "sound"),
    }
    config = load_config(path, overrides=[("inputs.audio", "{reader: features, width: 9}")])
    assert {name: o.width for name, o in config.inputs.items()} == {"rgb": 6, "audio": 9}
    with pytest.raises(ConfigError, match=r"INPUTS\.audio\.widht: unknown key; did you mean 'width'\?"):
        load_config(path, overrides=[("INPUTS.audio.widht", "9")])
    with pytest.raises(ConfigError, match=r"MODEL\.num_classes: 0") as caught:
        load_config(path, overrides=[("INPUTS.audio.field", "x"), ("MODEL.num_classes", "0")])
    assert "INPUTS" not in str(caught.value)


@pytest.mark.parametrize(
    ("plugins", "hint"),
    [
        ("[a]", "; the config was made with plugins: give --plugin a.py"),
        ("[a, 'b c; d']", "; the config was made with plugins: give --plugin a.py --plugin 'b c; d.py'"),
        ('["\\n\\e[2J"]', r"; the config was made with plugins: give --plugin '\n\x1b[2J.py'"),
        (str([f"n{i}" for i in range(9000)]), "give " + " ".join(f"--plugin n{i}.py" for i in range(5))),
        ("[]", "; if it comes from a plugin, give --plugin FILE.py"),
    ],
)
def test_a_model_that_is_missing_names_the_plugins_of_its_config(write, plugins, hint):
    with pytest.raises(UnknownNameError, match="Mine: unknown model; ") as caught:
        load_config(write(f"MODEL: {{name: Mine, num_classes: 3}}\nPLUGINS: {plugins}"))
    assert str(caught.value).endswith(hint)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("plugins", ["a", "{a: b}", "[[a]]", "[3]", "[null]", "[../a]", "[/etc/a]"])
def test_plugins_that_are_no_names_are_an_error(write, plugins):
    with pytest.raises(ConfigError, match=r"c\.yaml: PLUGINS: .* is not a list of names; leave it out$"):
        load_config(write(f"{PLAIN}PLUGINS: {plugins}"))


LAUGHS = "x0: &x0 [lol]\n" + "".join(f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 10))
HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS + "MODEL: *x9\n", "line 5: more than 10000 keys and values, aliases expanded"),
        ("l: &l [[a, a], [a, a]]\nMODEL: [*l, *l, *l]", "l: unknown section"),
        ("MODEL: &l [[[[[a]]]]]", "MODEL: [[[[...]]]] is not a section"),
        ("MODEL: " + "x" * 10**5, "xxx... is not a section"),
        ("MODEL: {name: !!bool maybe}", "line 1: 'maybe' is not a valid bool"),
        ("MODEL: {name: 2001-99-99}", "2001-99-99: unknown model"),
        (f"MODEL: {{name: AttentionLSTM, num_classes: {HUGE}}}", "line 1: a number of 5000 characters"),
        (f"MODEL: {{name: AttentionLSTM, num_classes: '{HUGE}'}}", "MODEL.num_classes: '999"),
        ("MODEL: {name: AttentionLSTM, num_classes: 1e400}", "MODEL.num_classes: '1e400'"),
        ("MODEL: {name: AttentionLSTM, num_classes: .inf}", "MODEL.num_classes: inf"),
        ('MODEL: {name: "a\\e[2J\\nb"}', r"a\x1b[2J\nb: unknown model"),
        ('"a\\e[2J\\nb": {}', r"a\x1b[2J\nb: unknown section"),
        ('MODEL: {name: TSN, "a\\e[2J\\nb": 1}', r"MODEL.a\x1b[2J\nb: unknown key"),
        ('MODEL: {name: TSN, backbone: "a\\e[2J\\nb"}', r"MODEL: a\x1b[2J\nb is not a backbone"),
        ("MODEL: {name: TSN, backbone: " + "x" * 10**5 + "}", "... is not a backbone"),
        ("MODEL: {name: TSN, 1: 2, ~: 3}", "MODEL.1: unknown key"),
        ("MODEL: {name: [TSN]}", "MODEL.name is missing"),
        (
            "MODEL: {name: AttentionLSTM, num_classes: 3, feature_names: [" + "x, " * 3000 + "]}",
            "at most 100",
        ),
        ("MODEL: {name: TSN}\nTRAIN: {freeze: [" + "[" * 40, "more than 32 nested sections or lists"),
        ("MODEL: {name: TSN}\nTRAIN: {lr_factors: {a: {b: {c: {d: {e: 1}}}}}}", "TRAIN.lr_factors"),
        ("MODEL: {name: TSN}\nTRAIN: {total_videos: 3, num_samples: 4}", "the same as num_samples"),
    ],
    ids=lambda value: value[:40],
)
def test_a_hostile_file_is_one_short_line_per_problem(write, text, message):
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        load_config(write(text))
    lines = error_text(caught.value).split("\n")
    assert message in "".join(lines)
    assert len(lines) <= 3
    assert all(len(line) <= 1500 and line.isprintable() for line in lines)


def numbers_of(cls):
    """The fields that hold whole numbers, or lists of them; not those that are only compared."""
    idle = {"feature_num", "num_samples", "num_gpus"}
    return [
        k for k, f in cls.model_fields.items() if "int" in f"{f.annotation}{f.metadata}" and k not in idle
    ]


def test_no_section_takes_a_number_that_overflows():
    splits = [TrainSection, VideoTrainSection, VideoInferSection, InferSection]
    models = [entry.config for entry in list_models()]
    for cls in splits + models:
        for key in numbers_of(cls):
            for number in (3 * 10**9, 9 * 10**18, 10**20):
                for value in (number, [number], [number, 8]):
                    with pytest.raises(ValidationError) as caught:
                        cls.model_validate({"name": "x", "num_classes": 3, key: value})
                    assert key in {problem["loc"][0] for problem in caught.value.errors()}, (cls, key, value)


@pytest.mark.parametrize(
    "cls", [VideoSplitSection, VideoInferSection, FeatureTrainSection, VideoTrainSection]
)
def test_a_key_that_a_section_declares_again_keeps_its_properties(cls):
    for base in cls.__mro__[1:]:
        for name, field in getattr(base, "model_fields", {}).items():
            properties = {each for each in field.metadata if isinstance(each, Key)}
            assert properties <= set(cls.model_fields[name].metadata), (name, base)


def test_counts_of_the_largest_data_sets_are_taken(write):
    text = "MODEL: {name: AttentionLSTM, num_classes: 10000000}\nTRAIN: {batch_size: 1000000, epoch: 100000}"
    config = load_config(write(text))
    assert (config.model.num_classes, config.train.batch_size) == (10**7, 10**6)
    config = load_config(write("MODEL: {name: TSN}\nINFER: {seg_num: 1000000, short_size: 4320}"))
    assert (config.infer.seg_num, config.infer.short_size) == (10**6, 4320)


def test_stacks_of_layers_are_bounded_lower(write):
    text = "MODEL: {name: BiGRU, num_classes: 3, num_layers: 1001}"
    with pytest.raises(ConfigError, match=r"MODEL.num_layers: 1001: input should be .* 1000"):
        load_config(write(text))


@pytest.mark.parametrize(
    ("key", "value"),
    [("std", "0"), ("std", "-1"), ("std", "1.0e-320"), ("mean", "1.0e+308"), ("std", ".nan")],
)
def test_colours_that_no_network_can_compute_with_are_refused(write, key, value):
    with pytest.raises(ConfigError, match=rf"MODEL.image_{key}.1: "):
        load_config(write(f"MODEL: {{name: TSN, image_{key}: [1, {value}, 1]}}"))


@pytest.mark.parametrize("key", ["MODEL.label_file", "TRAIN.pretrain", "TRAIN.filelist", "INFER.filelist"])
def test_a_text_that_is_too_long_for_a_path_is_shown_in_part(write, key):
    with pytest.raises(ConfigError, match=f"{key}: 'xxx.*: string should have at most 4095") as caught:
        load_config(write(OLD_TAGGER), overrides=[(key, "x" * 4096)])
    assert len(str(caught.value)) < 300


def test_a_time_out_that_no_clock_can_count_is_refused(write):
    with pytest.raises(ConfigError, match=r"INFER.stall_limit_sec: .*1000000"):
        load_config(write("MODEL: {name: TSN}\nINFER: {stall_limit_sec: 1.0e+308}"))


def test_a_section_may_take_keys_from_another(write):
    text = (
        "MODEL: {name: TSN}\nVALID: &v {seg_num: 7, batch_size: 2}\nTEST: {<<: *v, batch_size: 3}\nINFER: *v"
    )
    config = load_config(write(text), overrides=[("INFER.seg_num", 9)])
    assert (config.valid.seg_num, config.test.seg_num, config.infer.seg_num) == (7, 7, 9)
    assert (config.valid.batch_size, config.test.batch_size, config.infer.batch_size) == (2, 3, 2)


def test_valid_follows_train_in_keys_that_it_does_not_set(write):
    train = "TRAIN: {seg_num: 5, short_size: 340, resize: videotag, batch_size: 6, buf_size: 64, epoch: 2}"
    config = load_config(write(f"MODEL: {{name: TSN}}\n{train}"), overrides=[("TRAIN.target_size", 299)])
    valid = config.valid
    assert (valid.seg_num, valid.short_size, valid.target_size, valid.resize) == (5, 340, 299, "videotag")
    assert (valid.batch_size, valid.buf_size) == (6, 64)
    assert (config.test.seg_num, config.infer.short_size) == (300, 256)
    assert load_config(write(config.to_yaml())) == config


def test_valid_follows_the_defaults_of_train(write):
    config = load_config(write("MODEL: {name: TSN}"))
    assert config.valid.seg_num == config.train.seg_num == 3
    assert config.valid.batch_size == config.train.batch_size == 32


def test_what_valid_sets_wins_over_train(write):
    text = "MODEL: {name: TSN}\nTRAIN: {seg_num: 5, batch_size: 6}\nVALID: {short_size: 240}"
    valid = load_config(write(text), overrides=[("VALID.seg_num", 25)]).valid
    assert (valid.seg_num, valid.short_size) == (25, 240)
    assert valid.batch_size == 1  # six videos of 25 frames may not fit where six of 5 do


def test_valid_of_a_tagger_follows_the_batch_size_of_train(write):
    text = "MODEL: {name: AttentionLSTM, num_classes: 4}\nTRAIN: {batch_size: 6}"
    assert load_config(write(text)).valid.batch_size == 6
    assert load_config(write(text), overrides=[("VALID.batch_size", 9)]).valid.batch_size == 9


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[", "cannot read the value '[' as YAML"),
        ("!!bool maybe", "cannot read the value '!!bool maybe' as YAML: line 1: 'maybe' is not a valid bool"),
        (HUGE, "as YAML: line 1: a number of 5000 characters"),
        ("[" * 10**5, "more than 32 nested sections or lists"),
        ("1:59:59", "TRAIN.epoch: '1:59:59': input should be a valid integer"),
        ("2020-99-99", "TRAIN.epoch: '2020-99-99': input should be a valid integer"),
        ('"\\e[2J"', r"TRAIN.epoch: '\x1b[2J': input should be a valid integer"),
    ],
    ids=lambda value: value[:20],
)
def test_a_hostile_override_is_one_short_line(write, value, message):
    with pytest.raises(ConfigError) as caught:
        load_config(write(OLD_TSN), overrides=parse_overrides([f"TRAIN.epoch={value}"]))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_missing_file_names_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"nowhere.yaml: no such config file.*configs/tsn.yaml"):
        load_config("nowhere.yaml")


def test_a_shipped_config_is_found_from_any_folder(work_dir):
    assert load_config("configs/tsn.yaml").entry.name == "TSN"


def test_model_name_must_agree_with_the_file(write):
    with pytest.raises(ConfigError, match="is a config of TSN, not of AttentionLSTM"):
        load_config(write(OLD_TSN), model_name="AttentionLSTM")
    with pytest.raises(UnknownNameError, match="TNS: unknown model; did you mean 'TSN'"):
        load_config(write(OLD_TSN), model_name="TNS")


@pytest.mark.parametrize("text", ["TRAIN.epoch", "epoch=3", "=3"])
def test_a_malformed_override_shows_the_form(text):
    with pytest.raises(ConfigError, match=r"expected SECTION.key=value"):
        parse_overrides([text])


def test_an_override_of_an_unknown_section_or_key_is_an_error(write):
    with pytest.raises(ConfigError, match="TRIAN: unknown section; did you mean 'TRAIN'"):
        load_config(write(OLD_TSN), overrides=[("TRIAN.epoch", 3)])
    with pytest.raises(ConfigError, match=r"TRAIN.epohc: unknown key; did you mean 'epoch'"):
        load_config(write(OLD_TSN), overrides=[("TRAIN.epohc", 3)])


def test_a_config_whose_sections_are_merged_of_two_readers_can_be_pickled(write):
    load_models()
    inputs = "INPUTS: {rgb: {reader: features, width: 4}, frames: {reader: frames}}"
    model = "MODEL: {name: MeanPool, num_classes: 3, feature_names: [rgb], feature_dims: [4]}\n"
    config = load_config(write(model + inputs))
    assert {"seg_num", "batch_size"} <= config.train.model_dump().keys()
    copy = pickle.loads(pickle.dumps(config))
    assert copy.sections() == config.sections()
    assert type(copy.train) is type(config.train)
