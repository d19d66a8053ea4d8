"""The quality of data: repeated rows, odd texts, shares of labels; what is reported, and which rows are left out."""
