"""From tars, folders and tables of pictures to shards: `python -m trainer.data.convert`. No torch but where a network annotates samples."""
